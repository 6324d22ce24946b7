import { spawnSync } from 'node:child_process';

/**
 * What a card or driver must not do on a tap: XDP counts the frames of the wire, and a sensor that gets several of them
 * merged into one (GRO, LRO) counts others. With VLANs in the key, and where frames are taken in XDP, tags must stay in the frame.
 */
const MERGING = [
  'generic-receive-offload',
  'large-receive-offload',
  'rx-gro-hw',
  'rx-gro-list',
  'rx-udp-gro-forwarding',
];
const TAGS = 'rx-vlan-offload';

export interface Offloads {
  /** What was switched off, by its name in ethtool. */
  readonly changed: readonly string[];
  /** What is on and could not be switched off, with the command to try. */
  readonly problem: string | undefined;
  /** Switches on again what was on before. */
  restore(): void;
}

function ethtool(...args: string[]): string | undefined {
  const path = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`;
  const result = spawnSync('ethtool', args, {
    encoding: 'utf8',
    env: { ...process.env, PATH: path },
    timeout: 5000,
  });
  return result.status === 0 ? result.stdout : undefined;
}

/** Switches off on an interface what would make gate and sensor count different things; `tags`: VLAN tags are to stay in the frames. */
export function settleOffloads(ifname: string, tags: boolean): Offloads {
  const wanted = tags ? [...MERGING, TAGS] : MERGING;
  const listing = ethtool('-k', ifname);
  if (listing === undefined) {
    return {
      changed: [],
      problem: `the offloads of ${ifname} cannot be read; see that ethtool -K ${ifname} gro off lro off holds`,
      restore: () => {},
    };
  }
  const on = wanted.filter((name) => new RegExp(`^${name}: on(?! \\[fixed\\])`, 'm').test(listing));
  const changed = on.filter((name) => ethtool('-K', ifname, name, 'off') !== undefined);
  const left = on.filter((name) => !changed.includes(name));
  return {
    changed,
    problem:
      left.length === 0
        ? undefined
        : `on ${ifname} cannot be switched off: ${left.join(', ')}; try ethtool -K ${ifname} ${left.map((name) => `${name} off`).join(' ')}`,
    restore: () => {
      for (const name of changed) ethtool('-K', ifname, name, 'on');
    },
  };
}
