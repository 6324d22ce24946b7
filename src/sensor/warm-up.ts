import { createFlowEngine } from '../flow/index.ts';
import { conversation } from '../packet/conversation.ts';
import { Packet } from '../packet/packet.ts';

/** Enough for the compiler to have settled; some 200 ms. */
const ROUNDS = 12;
/** Room for one of conn.log. */
const LINE = 2048;

/**
 * Sends made-up connections through a flow engine that is thrown away. Code that has never run is slow: without this the
 * first elephant after the start would have passed tens of megabytes before its shunt began.
 */
export function warmUp(): void {
  const line = new Uint8Array(LINE);
  const closed = (slot: number): void => {
    engine.record(slot);
    engine.line(slot, line, 0);
  };
  const engine = createFlowEngine(
    { maxFlows: 1024 },
    { beforePacket: () => {}, mayExpire: () => true, closed },
  );
  const packet = new Packet();
  for (let round = 0; round < ROUNDS; round++) {
    const wide = round % 2 === 1;
    const frames = conversation({
      client: { address: wide ? '2001:db8::1' : '192.0.2.1', port: 1024 + round },
      server: { address: wide ? '2001:db8::2' : '192.0.2.2', port: 443 },
      turns: [
        { from: 'client', data: 2000 },
        { from: 'server', data: 1_000_000 },
      ],
      start: round * 10,
      retransmit: 0.01,
      reorder: 0.01,
    });
    for (const { ts, bytes } of frames) {
      packet.u8 = bytes;
      packet.caplen = bytes.length;
      packet.wirelen = bytes.length;
      packet.ts = ts;
      engine.process(packet);
    }
  }
  engine.finish();
}
