// Runs inside a namespace: sends frames out of an interface until it is ended. Argument: the interface.
import { PacketSender } from '../../src/kernel/index.ts';
import { eth } from '../../src/packet/build.ts';

const EVERY_MS = 20;
/** Frames of each kind in so long. */
const FRAMES = 10;

const [ifname = ''] = process.argv.slice(2);
const sender = new PacketSender(ifname);
const addresses = { src: '198.51.100.9', dst: '192.0.2.7' };

/** What rules of the lab drop (to port 9), and what none of them does. */
const kinds = [9, 7].map((dport) => eth().ipv4(addresses).udp({ sport: 5000, dport }).payload('lab').bytes());
const frames = new Uint8Array(
  Buffer.concat(kinds.flatMap((kind) => Array.from({ length: FRAMES }, () => kind))),
);
const offsets = Uint32Array.from({ length: 2 * FRAMES + 1 }, (_, at) => at * kinds[0].length);

process.on('message', ({ id }: { id: number }) => {
  setInterval(() => sender.send(frames, offsets), EVERY_MS);
  process.send?.({ id, value: true });
});
process.on('disconnect', () => process.exit(0));
