import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { CHECKS } from '../../src/doctor/checks/index.ts';

it('docs/doctor.md has every check with its title, and no other', () => {
  const page = readFileSync(new URL('../../docs/doctor.md', import.meta.url), 'utf8');
  const rows = [...page.matchAll(/^\| `([a-z]+\.[a-z-]+)` \| (.*) \|$/gm)].map(([, id, title]) => [
    id,
    title,
  ]);
  expect(rows).toEqual(CHECKS.map(({ id, title }) => [id, title]));
});
