#!/usr/bin/env node
import { existsSync } from 'node:fs';
import module from 'node:module';
import { fileURLToPath } from 'node:url';

const [major, minor] = process.versions.node.split('.').map(Number);
const program = process.argv[2] === 'read' ? 'read.js' : 'main.js';
const built = new URL(`../dist/src/cli/${program}`, import.meta.url);

function refuse(code, message, help) {
  process.stderr.write(`error[${code}]: ${message}\nhelp: ${help}\n`);
  process.exitCode = 3;
}

if (major < 22 || (major === 22 && minor < 12)) {
  refuse(
    'NODE',
    `Node.js ${process.versions.node} is too old`,
    'Sluice needs 22.12 or newer; in a checkout npx sluice and the npm scripts bring their own',
  );
} else if (!existsSync(built)) {
  refuse('SETUP', 'Sluice has not been built', 'in a checkout: npm run setup');
} else {
  // Beside what it was made from, not in the folder for temporary files, where others could put what root then runs.
  module.enableCompileCache(fileURLToPath(new URL('../build/compile-cache', import.meta.url)));
  const { main } = await import(built.href);
  process.exitCode = await main(process.argv.slice(2), process.env);
}
