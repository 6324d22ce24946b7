import { TUNNEL_KINDS } from '../src/base/tunnels.ts';
import { tieOf } from '../src/flow/tie.ts';
import type { Tunnel } from '../src/flow/tunnels.ts';
import { CARRIER, TIED } from '../src/gate/layout.ts';
import { installOwn } from '../src/gate/slots.ts';
import { tunnelConstants } from '../src/gate/tunnels.ts';
import { XdpAction } from '../src/kernel/index.ts';
import { eth, type PacketBuilder } from '../src/packet/build.ts';
import { A, ack, B, type Case, KEYS, packets, TCP_KEY } from './gate-case.ts';
import { type FlowKey, flowKey, GateTables, manyKeys } from './tables.ts';

const ENTRIES = 1000;
const ENDS = { src: '172.16.0.1', dst: '172.16.0.2' };
const UDP = { sport: 49_999, checksum: 0 };
const outer = (): PacketBuilder => eth().ipv4(ENDS);

const TUNNELS: Readonly<Record<string, () => PacketBuilder>> = {
  VXLAN: () => outer().udp(UDP).vxlan({ vni: 7 }).eth(),
  GENEVE: () => outer().udp(UDP).geneve({ vni: 7 }).eth(),
  GRE: () => outer().gre(),
  'IP in IP': outer,
};
const PORTS: Readonly<Record<string, number>> = { VXLAN: 4789, GENEVE: 6081 };

/** Shunts the packets' connection as the sensor does for one in this tunnel; its carrier is counted too. */
function shuntInside(tables: GateTables, name: string): void {
  const port = PORTS[name];
  const ends = [
    { addr: ENDS.src, port: UDP.sport },
    { addr: ENDS.dst, port: port ?? 0 },
  ] as const;
  const key = flowKey(17, ...ends);
  const words = new Int32Array(key.bytes.buffer, 0, port === undefined ? 2 : 4);
  const tie = tieOf([{ words } as Tunnel]);
  const { ops, owner } = tables.client;
  const give = (flow: FlowKey, flags: number): void => {
    for (const step of ['arm', 'flip'] as const) {
      ops.clear();
      ops.push(step, flow.family, flow.bytes, owner, 300_000, 1, [0, 0], [0, 0], { flags, tie: [tie, tie] });
      ops.run();
    }
  };
  give(TCP_KEY, TIED);
  if (port !== undefined) give(key, CARRIER);
}

function hitAndMiss(name: string, tables: GateTables, hit: Uint8Array, miss: Uint8Array): Case[] {
  const program = tables.object.program('sluice_gate');
  return [
    { name: `hit, ${name}`, program, data: hit, action: XdpAction.drop, floor: 'hit, IPv4 TCP' },
    { name: `miss, ${name}`, program, data: miss, action: XdpAction.pass, floor: 'miss, IPv4 TCP' },
  ];
}

/** The gate that looks into tunnels: packets outside of any, and hit and miss in each kind; what is made is the stack's. */
export function tunnelCases(path: string, stack: DisposableStack): Case[] {
  const ports = { vxlan: [4789], geneve: [6081] };
  const constants = tunnelConstants({ kinds: TUNNEL_KINDS, inKey: false, ports });
  const open = (): GateTables => {
    const tables = stack.use(new GateTables(path, 4096, 4096, constants));
    installOwn(tables.object.map('rules'), tables.object);
    tables.shunt(manyKeys(ENTRIES));
    return tables;
  };
  const plain = open();
  plain.shunt(KEYS);
  const ip = { src: A.addr, dst: B.addr };
  return [
    ...hitAndMiss('tunnels looked into, none there', plain, packets(true).ack, packets(false).ack),
    ...Object.entries(TUNNELS).flatMap(([name, around]) => {
      const tables = open();
      shuntInside(tables, name);
      const segment = (port: number): Uint8Array => around().ipv4(ip).tcp(ack(A.port, port)).bytes();
      return hitAndMiss(`in ${name}`, tables, segment(B.port), segment(444));
    }),
  ];
}
