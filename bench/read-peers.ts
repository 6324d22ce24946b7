import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Another program that makes flows, or reads packets, of a capture file. */
export interface ReadPeer {
  name: string;
  /** Debian package that has it. */
  package: string;
  command: string;
  args: (file: string, dir: string) => string[];
}

export const PEERS: readonly ReadPeer[] = [
  {
    name: 'tcpdump -w /dev/null (copies packets)',
    package: 'tcpdump',
    command: 'tcpdump',
    args: (file) => ['-r', file, '-w', '/dev/null'],
  },
  {
    name: 'softflowd (flows, no TCP states)',
    package: 'softflowd',
    command: 'softflowd',
    // In the foreground, exporting to nobody, without a control socket.
    args: (file, dir) => ['-r', file, '-d', '-m', '1000000', '-c', 'none', '-p', join(dir, 'pid')],
  },
  {
    name: 'nfpcapd (flows)',
    package: 'nfdump',
    command: 'nfpcapd',
    args: (file, dir) => ['-r', file, '-w', dir],
  },
  {
    name: 'argus (flows)',
    package: 'argus-server',
    command: 'argus',
    args: (file, dir) => ['-r', file, '-w', join(dir, 'argus.out')],
  },
  {
    name: 'tshark -q (dissects)',
    package: 'tshark',
    command: 'tshark',
    args: (file) => ['-r', file, '-q', '-n'],
  },
];

/** Longest run of a peer. */
const LIMIT_MS = 15_000;
const env = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` };

export function isInstalled({ command }: ReadPeer): boolean {
  return spawnSync('sh', ['-c', `command -v ${command}`], { env, stdio: 'ignore' }).status === 0;
}

/** Seconds that a peer takes for a file; undefined when it fails or takes longer than 15. */
export function peerSeconds({ command, args }: ReadPeer, file: string): number | undefined {
  const dir = mkdtempSync(join(tmpdir(), 'sluice-peer-'));
  try {
    const begin = performance.now();
    const { status } = spawnSync(command, args(file, dir), { env, stdio: 'ignore', timeout: LIMIT_MS });
    return status === 0 ? (performance.now() - begin) / 1000 : undefined;
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}
