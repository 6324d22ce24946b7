import { bad, type Check, type Fix, nicCheck, ok, type Verdict } from '../finding.ts';
import type { Nic } from '../machine.ts';

function off(nic: Nic, names: readonly string[], riskText: string): Fix {
  return {
    text: `switch off ${names.join(', ')}`,
    risk: nic.hostTraffic ? 'host' : 'none',
    riskText: nic.hostTraffic ? riskText : 'none for a tap',
    changes: names.map((name) => ({ setting: { kind: 'feature', ifname: nic.name, name }, value: 'off' })),
  };
}

/** `names` are on that should be off. */
function mustBeOff(
  nic: Nic,
  names: readonly string[],
  level: 'warning' | 'problem',
  reason: string,
  riskText: string,
): Verdict {
  const there = names.filter((name) => nic.features[name] !== undefined);
  if (there.length === 0) return undefined;
  const on = there.filter((name) => nic.features[name].on);
  if (on.length === 0) return ok(`${there.join(', ')}: off`);
  const free = on.filter((name) => !nic.features[name].fixed);
  if (free.length === 0)
    return bad('note', `${on.join(', ')}: on, and the driver does not let it be switched off`, reason);
  return bad(level, `${free.join(', ')}: on`, reason, off(nic, free, riskText));
}

const gro = nicCheck('nic.gro', 'no merging of received frames (GRO)', (nic) =>
  mustBeOff(
    nic,
    ['rx-gro', 'rx-gro-hw', 'rx-gro-list', 'rx-udp-gro-forwarding'],
    'warning',
    'the gate counts frames of the wire; a sensor that gets several of them merged into one counts others, and frames longer than the snap length are cut. `sluice run` switches it off itself while it runs',
    "the host's own TCP takes more processor time",
  ),
);

const lro = nicCheck('nic.lro', 'no merging in the card (LRO)', (nic) =>
  mustBeOff(
    nic,
    ['rx-lro'],
    'problem',
    'the card merges frames before anything can see them: lengths, times, headers and checksums are not those of the wire, and drivers refuse XDP with it',
    "the host's own TCP takes more processor time",
  ),
);

const vlan = nicCheck('nic.rx-vlan', 'tags stay in the frame', (nic) =>
  mustBeOff(
    nic,
    ['rx-vlan-hw-parse', 'rx-vlan-stag-hw-parse'],
    'warning',
    'a tag that the card takes out of the frame is not there for XDP: rules and keys with VLANs do not match (`--vlan-key`), and connections of different VLANs become one',
    'the host takes out tags by itself',
  ),
);

export const OFFLOAD_CHECKS: readonly Check[] = [gro, lro, vlan];
