import { join } from 'node:path';
import { packageRoot } from '../src/kernel/addon.ts';
import type { Contender } from './contender.ts';

const SLUICE = join(packageRoot(), 'bin', 'sluice.js');

function ours(name: string, flags: readonly string[]): Contender {
  return {
    name,
    command: process.execPath,
    args: (file, dir) => [SLUICE, 'read', ...flags, file, '--log-dir', dir, '--json'],
    flows: (output) => numberIn(/"flows":(\d+)/, output),
  };
}

/** Sluice itself, conn.log written. */
export const BARE = ours('sluice read --bare', ['--bare']);
export const FULL = ours('sluice read', []);

/** Another program, and the Debian package that has it. */
export interface ReadPeer extends Contender {
  package: string;
}

function numberIn(pattern: RegExp, text: string): number | undefined {
  const found = pattern.exec(text)?.[1];
  return found === undefined ? undefined : Number(found);
}

export const PEERS: readonly ReadPeer[] = [
  {
    name: 'softflowd (flows, no TCP states)',
    package: 'softflowd',
    command: 'softflowd',
    // In the foreground, exporting to nobody, without a control socket; IPv6 too.
    args: (file, dir) => ['-r', file, '-d', '-6', '-m', '1000000', '-c', 'none', '-p', join(dir, 'pid')],
    flows: (output) => numberIn(/^Flows expired: (\d+)/m, output),
  },
  {
    name: 'nfpcapd (one-way flows)',
    package: 'nfdump',
    command: 'nfpcapd',
    args: (file, dir) => ['-r', file, '-w', dir],
    flows: (output) => {
      // A line for each file that it has written.
      let flows = 0;
      for (const [, count] of output.matchAll(/^Ident: .* Flows: (\d+)/gm)) flows += Number(count);
      return flows;
    },
  },
  {
    name: 'argus (flow records)',
    package: 'argus-server',
    command: 'argus',
    args: (file, dir) => ['-r', file, '-w', join(dir, 'argus.out')],
  },
  {
    name: 'tshark -q -z conv,tcp (dissects)',
    package: 'tshark',
    command: 'tshark',
    args: (file) => ['-r', file, '-q', '-n', '-z', 'conv,tcp'],
    once: true,
  },
  {
    name: 'tcpdump -w /dev/null (copies)',
    package: 'tcpdump',
    command: 'tcpdump',
    args: (file) => ['-r', file, '-w', '/dev/null'],
  },
];
