import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import { createLab } from '../../lab/index.ts';
import { processesIn } from '../../lab/namespace.ts';
import { kernelTest, until } from '../support/kernel.ts';

kernelTest('a killed owner takes everything with it', ['xdpNativeVeth', 'xdpFrags', 'tcx'], async () => {
  const owner = spawn(process.execPath, [fileURLToPath(new URL('owner.ts', import.meta.url))], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [chunk] = (await once(owner.stdout, 'data')) as [Buffer];
  const { inodes, directory } = JSON.parse(chunk.toString('utf8')) as { inodes: number[]; directory: string };
  const namespaces = new Set(inodes);
  // Holders, servers, clients, the tc-BPF agent, tcpdump.
  await until(() => processesIn(namespaces).length >= 10, 'not all processes of the lab are there');
  owner.kill('SIGKILL');
  await once(owner, 'close');
  await until(() => processesIn(namespaces).length === 0, 'processes of the lab are still there');
  // Its directory of temporary files is all that is left, until the next lab.
  await (await createLab()).close();
  expect(existsSync(directory)).toBe(false);
});
