/**
 * Puts all modules that `sluice read` needs into one file beside main.js: to find and load some two hundred of them takes
 * longer than to read a small capture. Other commands are left where they are.
 *
 *   node scripts/bundle-read.ts FOLDER-OF-MAIN
 */
import { join } from 'node:path';
import { build } from 'rolldown';

const folder = process.argv[2] ?? '';
await build({
  input: join(folder, 'main.js'),
  platform: 'node',
  external: (id) => /\/commands\/(?!read\.)/.test(id),
  output: { file: join(folder, 'read.js'), format: 'esm', codeSplitting: false },
  logLevel: 'warn',
});
