import { readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { TUNNEL_KINDS } from '../../src/base/tunnels.ts';
import { loadBalance, oneSidedPorts } from '../../src/capture/balance.ts';
import { constantsOf, type Features, NO_FEATURES } from '../../src/gate/features.ts';
import { type GateKind, KINDS, objectOf } from '../../src/gate/kind.ts';
import type { GatePeers } from '../../src/gate/peers.ts';
import { type GateSteering, steerOptions } from '../../src/gate/steer.ts';
import type { GateTunnels } from '../../src/gate/tunnels.ts';
import type { GateWatch } from '../../src/gate/watch.ts';
import { type BpfObject, loadObject } from '../../src/kernel/index.ts';

/** Of a loaded program: instructions that the verifier processed, and that are left of it. */
export interface Effort {
  processed: number;
  instructions: number;
}

const TUNNELS: GateTunnels = { kinds: TUNNEL_KINDS, inKey: true, ports: { vxlan: [4789], geneve: [6081] } };

/** Only XDP programs do that. */
const STEER: GateSteering = { cpus: [0, 1], queue: 64, tagged: false };

const PEERS: GatePeers = {
  zeek: { directory: '', entries: 1 },
  suricata: { entries: 1, shared: false, hostOrder: true },
};

const WATCH: GateWatch = { tls: true, bytes: 1e6, packets: 100, idle: 60, owner: 255, size: 64 };

const ALL_ON = {
  vlanKey: true,
  pairs: true,
  prefixes: 64,
  rules: true,
  fragments: true,
  trace: true,
  notes: true,
  samples: true,
} as const;

/** The gate with nothing on, with each option alone, and with all. */
const VARIANTS: Readonly<Record<string, Partial<Features> & { vlanKey?: boolean }>> = {
  'nothing on': {},
  'VLANs in the key': { vlanKey: true },
  pairs: { pairs: true },
  'pairs and 64 prefixes': { pairs: true, prefixes: 64 },
  rules: { rules: true },
  fragments: { fragments: true },
  trace: { trace: true },
  notes: { notes: true },
  samples: { samples: true },
  steering: { steer: STEER },
  'steering, and tunnels': { steer: STEER, tunnels: TUNNELS },
  tunnels: { tunnels: TUNNELS },
  'tunnels that end here': { tunnels: { ...TUNNELS, mirror: true } },
  "other sensors' tables": { peers: PEERS },
  thresholds: { thresholds: true },
  'standing alone': { thresholds: true, watch: WATCH },
  'standing alone, and tunnels': { thresholds: true, watch: WATCH, tunnels: TUNNELS },
  'all on': ALL_ON,
  'all on, and tunnels': { ...ALL_ON, tunnels: TUNNELS },
  "all on, tunnels and other sensors' tables": { ...ALL_ON, tunnels: TUNNELS, peers: PEERS },
};

/** What users never load: made for tests, some of them to be refused. */
const FOR_TESTS = /^test_/;

const GATES = new Set(
  Object.values(KINDS).flatMap(({ object, tunnels, peers = [], steer = [] }) =>
    [object, tunnels, `${object}_watch`, `${tunnels}_watch`, peers, steer].flat(),
  ),
);

function note(efforts: Record<string, Effort>, label: string, object: BpfObject): void {
  for (const [name, program] of object.programs) {
    const { verifiedInstructions, xlatedBytes } = program.info();
    efforts[`${label}: ${name}`] = { processed: verifiedInstructions, instructions: xlatedBytes / 8 };
  }
  object.close();
}

/**
 * The effort for every program of the objects in a directory, as this kernel's verifier tells it.
 * @param peek also what the kernel may refuse (before Linux 6.2): it is tried where it is of use, and done without
 */
export function verifierEffort(directory: string, peek = true): Record<string, Effort> {
  const efforts: Record<string, Effort> = {};
  for (const kind of ['xdp', 'socket'] satisfies GateKind[]) {
    const { object: plain, load } = KINDS[kind];
    for (const [label, { vlanKey = false, ...features }] of Object.entries(VARIANTS)) {
      // Filters on sockets watch nothing.
      const on = { ...NO_FEATURES, ...features, ...(kind === 'socket' ? { watch: undefined } : {}) };
      if ((features.steer !== undefined || features.peers !== undefined) && kind === 'socket') continue;
      const { mapSizes, programs } = steerOptions(features.steer, features.tunnels !== undefined);
      const object = load(join(directory, `${objectOf(kind, on)}.bpf.o`), {
        constants: constantsOf(on, vlanKey),
        mapSizes: { ledger: 1, flows4: 16, flows6: 16, ops: 16, ...mapSizes },
        programs,
      });
      note(efforts, `${plain}, ${label}`, object);
    }
  }
  for (const file of readdirSync(directory).sort()) {
    const name = basename(file, '.bpf.o');
    if (!file.endsWith('.bpf.o') || GATES.has(name) || FOR_TESTS.test(name)) continue;
    note(efforts, name, loadObject(join(directory, file)));
  }
  const mirror = { kind: 'geneve+vxlan', skip: 0, linkType: 1 } as const;
  note(efforts, 'reuseport, GENEVE+VXLAN', loadBalance(mirror, 4, oneSidedPorts(TUNNELS.ports)));
  if (peek)
    note(efforts, 'xsk, on a veth', loadObject(join(directory, 'xsk.bpf.o'), { constants: { cfg_peek: 1 } }));
  return efforts;
}
