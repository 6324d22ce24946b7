import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { SERVICES } from '../../src/flow/services/index.ts';
import { connSchema } from '../../src/log/conn-log.ts';
import { noticeSchema, shuntSchema, statsSchema } from '../../src/log/other-logs.ts';
import { sslSchemaWithId } from '../../src/log/ssl-log.ts';
import { tunnelSchemaWithId } from '../../src/log/tunnel-log.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
const pages = [
  'README.md',
  'CHANGELOG.md',
  'LICENSES/README.md',
  ...readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.md'))
    .map((name) => join('docs', name)),
];

const read = (page: string) => readFileSync(join(root, page), 'utf8');

describe('documentation', () => {
  it.each(pages)('%s links only to what is there', (page) => {
    for (const [, target] of read(page).matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g)) {
      const path = join(root, dirname(page), target);
      expect(existsSync(path), `${page} links to ${relative(root, path)}`).toBe(true);
    }
  });

  it('lists every decision record', () => {
    const index = read('docs/adr/README.md');
    for (const name of readdirSync(join(root, 'docs/adr')).filter((each) => /^\d/.test(each)))
      expect(index).toContain(`(${name})`);
  });

  it('names every service', () => {
    const [section] = read('docs/logs.md').split('## conn.log')[1].split('\n## ');
    for (const { name } of SERVICES) expect(section).toContain(`\`${name}\``);
  });

  it('names every field of every log', () => {
    const schemas = [
      connSchema({ shunts: true, vlan: true, communityId: true }),
      sslSchemaWithId,
      tunnelSchemaWithId,
      shuntSchema,
      statsSchema({}),
      noticeSchema,
    ];
    const page = read('docs/logs.md');
    for (const { log, fields } of schemas) {
      const section = page.slice(page.indexOf(`## ${log}.log`)).split('\n## ')[0];
      for (const { name } of fields) {
        // Endpoints are described once.
        const written = log !== 'conn' && name.startsWith('id.') ? 'id.*' : name;
        expect(section, `${log}.log: ${name}`).toContain(`\`${written}\``);
      }
    }
  });
});
