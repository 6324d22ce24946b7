import { createFlowEngine } from '../src/flow/index.ts';
import { coarseStep, realtimeOffset } from '../src/kernel/index.ts';
import { eth } from '../src/packet/build.ts';
import { Packet } from '../src/packet/packet.ts';
import { Shunter } from '../src/sensor/shunter.ts';
import type { GateTables } from './tables.ts';

const ETH = 14;
/** Turns after which every shunt has come through: armed, synchronized, flipped. */
const TURNS = 20;

interface Segment {
  frame: Uint8Array;
  view: DataView;
  /** Where the client's address ends, and its port is. */
  host: number;
  port: number;
}

/** A segment of a connection to 192.0.2.2 or 2001:db8::2, port 443; address and port of the client are filled in. */
function segment(ipv6: boolean, fromClient: boolean, flags: string, seq: number, ack: number): Segment {
  const [client, server] = ipv6 ? ['2001:db8:1::1', '2001:db8::2'] : ['10.9.0.1', '192.0.2.2'];
  const [src, dst] = fromClient ? [client, server] : [server, client];
  const ip = ipv6 ? eth().ipv6({ src, dst }) : eth().ipv4({ src, dst });
  const frame = ip.tcp({ sport: 443, dport: 443, seq, ack, flags, window: 1000 }).bytes();
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  const transport = ETH + (ipv6 ? 40 : 20);
  const source = ETH + (ipv6 ? 8 : 12);
  const size = ipv6 ? 16 : 4;
  return {
    frame,
    view,
    host: source + (fromClient ? 0 : size) + size - 2,
    port: transport + (fromClient ? 0 : 2),
  };
}

const handshake = (ipv6: boolean): Segment[] => [
  segment(ipv6, true, 'S', 100, 0),
  segment(ipv6, false, 'SA', 500, 101),
  segment(ipv6, true, 'A', 101, 501),
];

/**
 * A sensor's hand-off with `count` connections shunted, every sixth of them over IPv6: real flow table, real entries, and
 * made-up packets in place of a ring.
 */
export function liveShunts(tables: GateTables, count: number): Shunter {
  const engine = createFlowEngine(
    { maxFlows: Math.max(1024, count), checksums: false },
    { beforePacket: () => {}, mayExpire: () => true, closed: () => {} },
  );
  let turn = 0;
  const shunter = new Shunter({
    engine,
    gate: tables.client,
    ring: {
      get sequence() {
        return turn;
      },
      openBlock: () => turn,
      position: 0,
      received: () => 0,
    },
    events: { started: () => {}, ended: () => {}, refused: () => {}, recovered: () => {}, late: () => {} },
    idle: 300,
    settleMs: 0,
    clockOffset: realtimeOffset,
    tick: coarseStep(),
    isLocal: () => false,
    trigger: () => 'TLS_ESTABLISHED',
  });
  const segments = [handshake(false), handshake(true)] as const;
  const packet = new Packet();
  const ts = Date.now() / 1000;
  for (let n = 0; n < count; n++) {
    let slot = -1;
    for (const { frame, view, host, port } of segments[n % 6 === 5 ? 1 : 0]) {
      view.setUint16(host, 1 + (n >> 14));
      view.setUint16(port, 40_000 + (n & 0x3fff));
      packet.u8 = frame;
      packet.caplen = frame.length;
      packet.wirelen = frame.length;
      packet.ts = ts;
      slot = engine.process(packet);
    }
    shunter.request(slot, 0, ts);
  }
  while (turn++ < TURNS) shunter.turn();
  if (shunter.live !== count) throw new Error(`${shunter.live} of ${count} connections were shunted`);
  return shunter;
}
