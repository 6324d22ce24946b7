import { execFileSync } from 'node:child_process';
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../../', import.meta.url));
const RULE = 'eslint(no-restricted-imports)';

/** Lines of parts, topmost first, as docs/architecture.md shows them. */
function layersOfDocument(): string[][] {
  const page = readFileSync(join(root, 'docs/architecture.md'), 'utf8');
  const section = page.slice(page.indexOf('## Parts, arrows one way'));
  return section
    .slice(section.indexOf('```') + 3)
    .split('```')[0]
    .trim()
    .split('\n')
    .map((line) => [...line.matchAll(/src\/([a-z]+)/g)].map((match) => match[1]));
}

const layers = layersOfDocument();
const parts = layers.flat();
const height = (part: string) => layers.length - layers.findIndex((line) => line.includes(part));
const PURE = new Set(['packet', 'ebpf']);

const allowed = (from: string, to: string) => height(to) < height(from) && (!PURE.has(from) || to === 'base');

let dir: string;
/** Rules that lint found broken, by file. */
let found: Map<string, string[]>;
let status: number;

function plant(path: string, text: string): void {
  mkdirSync(dirname(join(dir, path)), { recursive: true });
  writeFileSync(join(dir, path), text);
}

function lint(paths: string[]): { status: number; found: Map<string, string[]> } {
  let output: string;
  let code = 0;
  try {
    output = execFileSync(
      join(root, 'node_modules/.bin/oxlint'),
      ['--deny-warnings', '-f', 'json', ...paths],
      {
        cwd: dir,
        encoding: 'utf8',
        maxBuffer: 64 * 2 ** 20,
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    );
  } catch (error) {
    const failed = error as { status: number; stdout: string };
    output = failed.stdout;
    code = failed.status;
  }
  const rules = new Map<string, string[]>();
  for (const { filename, code: rule } of (
    JSON.parse(output) as { diagnostics: { filename: string; code: string }[] }
  ).diagnostics) {
    rules.set(filename, [...(rules.get(filename) ?? []), rule]);
  }
  return { status: code, found: rules };
}

beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'sluice-layers-'));
  copyFileSync(join(root, '.oxlintrc.json'), join(dir, '.oxlintrc.json'));
  for (const part of parts) plant(`src/${part}/target.ts`, 'export const target = 1;\n');
  plant('test/target.ts', 'export const target = 1;\n');
  plant('lab/target.ts', 'export const target = 1;\n');
  for (const from of parts) {
    for (const to of parts) {
      if (from === to) continue;
      plant(
        `src/${from}/uses-${to}.ts`,
        `import { target } from '../${to}/target.ts';\n\nexport const used = target;\n`,
      );
    }
    plant(
      `src/${from}/uses-tests.ts`,
      "import { target } from '../../test/target.ts';\n\nexport const used = target;\n",
    );
    plant(
      `src/${from}/uses-lab.ts`,
      "import { target } from '../../lab/target.ts';\n\nexport const used = target;\n",
    );
    plant(
      `src/${from}/opens-addon.ts`,
      "import { createRequire } from 'node:module';\n\nexport const used = createRequire(import.meta.url);\n",
    );
  }
  // The other ways to import something.
  plant(
    'src/base/by-type.ts',
    "import type { target } from '../gate/target.ts';\n\nexport type Used = typeof target;\n",
  );
  plant('src/base/by-export.ts', "export * from '../gate/target.ts';\n");
  plant('src/base/by-call.ts', "export const load = () => import('../gate/target.ts');\n");
  plant(
    'src/base/by-detour.ts',
    "import { target } from './../../src/gate/target.ts';\n\nexport const used = target;\n",
  );
  plant(
    'src/base/deep/down.ts',
    "import { target } from '../../gate/target.ts';\n\nexport const used = target;\n",
  );
  plant('lab/uses-cli.ts', "import { target } from '../src/cli/target.ts';\n\nexport const used = target;\n");
  ({ status, found } = lint(['.']));
});
afterAll(() => rmSync(dir, { recursive: true }));

describe('the picture of parts in docs/architecture.md', () => {
  it('shows every folder of src, and the order that the design relies on', () => {
    for (const part of readdirSync(join(root, 'src'))) expect(parts).toContain(part);
    expect(layers[0]).toEqual(['cli']);
    expect(layers.at(-1)).toEqual(['base']);
    expect(new Set(parts).size).toBe(parts.length);
    for (const [upper, lower] of [
      ['cli', 'sensor'],
      ['sensor', 'gate'],
      ['sensor', 'log'],
      ['gate', 'flow'],
      ['flow', 'capture'],
      ['capture', 'packet'],
      ['packet', 'kernel'],
      ['kernel', 'base'],
    ]) {
      expect(height(upper), `${upper} above ${lower}`).toBeGreaterThan(height(lower));
    }
  });

  it('has a lint entry for every part', () => {
    const config = JSON.parse(readFileSync(join(root, '.oxlintrc.json'), 'utf8')) as {
      overrides: { files: string[] }[];
    };
    const covered = config.overrides.flatMap(({ files }) => files);
    for (const part of parts) expect(covered).toContain(`src/${part}/**`);
  });
});

describe('a planted import', () => {
  it('fails the lint', () => expect(status).not.toBe(0));

  it.each(parts)('of another part into src/%s is refused exactly when the picture forbids it', (from) => {
    for (const to of parts.filter((part) => part !== from)) {
      const rules = found.get(`src/${from}/uses-${to}.ts`) ?? [];
      expect(rules, `src/${from} importing src/${to}`).toEqual(allowed(from, to) ? [] : [RULE]);
    }
  });

  it('of tests is refused everywhere, of the lab everywhere but in the command line', () => {
    for (const part of parts) {
      expect(found.get(`src/${part}/uses-tests.ts`), part).toEqual([RULE]);
      expect(found.get(`src/${part}/uses-lab.ts`), part).toEqual(part === 'cli' ? undefined : [RULE]);
    }
    expect(found.get('lab/uses-cli.ts')).toEqual([RULE]);
  });

  it('of the way to load native code is refused everywhere but in src/kernel', () => {
    for (const part of parts) {
      expect(found.get(`src/${part}/opens-addon.ts`), part).toEqual(part === 'kernel' ? undefined : [RULE]);
    }
  });

  it.each(['by-type', 'by-export', 'by-call', 'by-detour', 'deep/down'])(
    'is refused in the form %s',
    (name) => expect(found.get(`src/base/${name}.ts`)).toEqual([RULE]),
  );

  it('that is legal passes alone', () => {
    const legal = parts.flatMap((from) =>
      parts.filter((to) => from !== to && allowed(from, to)).map((to) => `src/${from}/uses-${to}.ts`),
    );
    expect(legal.length).toBeGreaterThan(50);
    expect(lint(legal).status).toBe(0);
  });
});
