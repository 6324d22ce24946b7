/**
 * Writes the layouts of structures that in-kernel C and TypeScript share, from the BTF of the compiled object, so
 * that none is typed twice. `--check` changes nothing and fails when a committed file differs.
 *
 *   node scripts/gen-layouts.ts [--check]
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Btf, readBtf } from '../src/kernel/btf.ts';

/** Which structures of which object go where: names, or the beginning of names followed by a star. */
const LAYOUTS = [
  {
    object: 'build/bpf/gate_steer.bpf.o',
    source: 'bpf/gate.h',
    out: 'src/gate/layout.gen.ts',
    structs: ['sl_*'],
  },
  {
    object: 'build/bpf/gate_peers.bpf.o',
    source: 'bpf/peers.h',
    out: 'src/gate/peer-layout.gen.ts',
    structs: ['peer_*'],
  },
  {
    object: 'build/bpf/gate_watch.bpf.o',
    source: 'bpf/gate.h',
    out: 'src/gate/watch-layout.gen.ts',
    structs: ['sl_watch*'],
  },
  {
    object: 'build/bpf/rules.bpf.o',
    source: 'bpf/rules.h',
    out: 'src/rules/layout.gen.ts',
    structs: ['sl_rule*', 'sl_sample*'],
  },
  {
    object: 'build/bpf/cap.bpf.o',
    source: 'bpf/cap.h',
    out: 'src/gate/cap-layout.gen.ts',
    structs: ['sl_cap*'],
  },
  {
    object: 'build/bpf/xsk.bpf.o',
    source: 'bpf/xsk.h',
    out: 'src/capture/xsk-layout.gen.ts',
    structs: ['sl_xsk*'],
  },
];

const root = join(import.meta.dirname, '..');

function matches(pattern: string, name: string): boolean {
  return pattern.endsWith('*') ? name.startsWith(pattern.slice(0, -1)) : name === pattern;
}

function selected(btf: Btf, patterns: string[]): string[] {
  const names = btf.structs().map((layout) => layout.name);
  return [...new Set(patterns.flatMap((pattern) => names.filter((name) => matches(pattern, name))))].sort();
}

/** sl_value4 → SlValue4 */
function pascal(name: string): string {
  return name
    .split('_')
    .map((part) => part.slice(0, 1).toUpperCase() + part.slice(1))
    .join('');
}

function generate(btf: Btf, source: string, patterns: string[]): string {
  const parts = [
    `/** Sizes and offsets in bytes of the structures in ${source}. Written by scripts/gen-layouts.ts: do not edit. */`,
  ];
  for (const name of selected(btf, patterns)) {
    const layout = btf.struct(name);
    const members = layout.members.map((member) => `${member.name}: ${member.offset}`);
    parts.push(
      '',
      `/** struct ${name} */`,
      `export const ${pascal(name)} = { size: ${layout.size}, members: { ${members.join(', ')} } } as const;`,
    );
  }
  return `${parts.join('\n')}\n`;
}

function formatted(code: string, path: string): string {
  const biome = join(root, 'node_modules', '.bin', 'biome');
  const result = spawnSync(biome, ['format', `--stdin-file-path=${path}`], {
    cwd: root,
    input: code,
    encoding: 'utf8',
  });
  if (result.status !== 0) throw new Error(`biome: ${result.stderr}`);
  return result.stdout;
}

const check = process.argv.includes('--check');
let stale = false;
for (const { object, source, out, structs } of LAYOUTS) {
  const code = formatted(generate(readBtf(readFileSync(join(root, object))), source, structs), out);
  const path = join(root, out);
  if (existsSync(path) && readFileSync(path, 'utf8') === code) continue;
  if (check) {
    process.stderr.write(
      `${out} does not match ${object}: run \`npm run build && node scripts/gen-layouts.ts\`\n`,
    );
    stale = true;
  } else {
    writeFileSync(path, code);
    process.stderr.write(`wrote ${out}\n`);
  }
}
if (stale) process.exit(1);
