import { PeerSuricataKey4, PeerZeekKey } from '../src/gate/peer-layout.gen.ts';
import { peerConstants } from '../src/gate/peers.ts';
import { XdpAction } from '../src/kernel/index.ts';
import { ipBytes } from '../src/packet/address.ts';
import { A, B, type Case, packets } from './gate-case.ts';
import { type Endpoint, GateTables } from './tables.ts';

const ENTRIES = 1000;
const ROOM = 4096;

const PEERS = {
  zeek: { zeek: { directory: '', entries: ROOM }, suricata: undefined },
  suricata: { zeek: undefined, suricata: { entries: ROOM, shared: false, hostOrder: false } },
} as const;

/** As xdp-zeek makes it: ::ffff:10.0.0.1 is below ::ffff:192.168.0.1 as words of the machine too. */
function zeekKey(a: Endpoint, b: Endpoint): Uint8Array {
  const key = new Uint8Array(PeerZeekKey.size);
  const view = new DataView(key.buffer);
  const K = PeerZeekKey.members;
  for (const [at, { addr }] of [[K.ip1, a] as const, [K.ip2, b] as const]) {
    view.setUint16(at + 10, 0xffff);
    key.set(ipBytes(addr) ?? [], at + 12);
  }
  view.setUint16(K.port1, a.port, true);
  view.setUint16(K.port2, b.port, true);
  view.setUint16(K.protocol, 6, true);
  return key;
}

function suricataKey(a: Endpoint, b: Endpoint): Uint8Array {
  const key = new Uint8Array(PeerSuricataKey4.size);
  const view = new DataView(key.buffer);
  const K = PeerSuricataKey4.members;
  key.set(ipBytes(a.addr) ?? [], K.src);
  key.set(ipBytes(b.addr) ?? [], K.dst);
  view.setUint16(K.sport, a.port);
  view.setUint16(K.dport, b.port);
  view.setUint16(K.vlan0, 1, true);
  return key;
}

/** The gate that serves other sensors' tables: hit and miss in each; what is made is the stack's. `path`: gate_peers. */
export function peerCases(path: string, stack: DisposableStack): Case[] {
  return (['zeek', 'suricata'] as const).flatMap((name) => {
    const room =
      name === 'zeek' ? ['shunt_map', 'ip_pair_map'] : ['flow_table_v4', 'flow_table_v6', 'peer_ends'];
    const sizes = Object.fromEntries(room.map((map) => [map, ROOM]));
    const tables = stack.use(new GateTables(path, ROOM, ROOM, peerConstants(PEERS[name]), undefined, sizes));
    const map = tables.object.map(room[0]);
    const keyOf = name === 'zeek' ? zeekKey : suricataKey;
    for (let port = 0; port < ENTRIES; port++)
      map.set(keyOf({ ...A, port: 20_000 + port }, B), new Uint8Array(map.valueBytes));
    map.set(keyOf(A, B), new Uint8Array(map.valueBytes));
    const program = tables.object.program('sluice_gate');
    return [
      {
        name: `hit, in a table of ${name}`,
        program,
        data: packets(true).ack,
        action: XdpAction.drop,
        floor: 'hit, IPv4 TCP',
      },
      {
        name: `miss, tables of ${name} served`,
        program,
        data: packets(false).ack,
        action: XdpAction.pass,
        floor: 'miss, IPv4 TCP',
      },
    ];
  });
}
