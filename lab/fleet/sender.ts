// Runs inside a namespace: sends frames out of an interface until it is ended. Arguments: the interface, a seed.
import { attackOf } from '../../bench/attack-traffic.ts';
import { usualTraffic } from '../../bench/usual-traffic.ts';
import { PacketSender } from '../../src/kernel/index.ts';
import { eth } from '../../src/packet/build.ts';
import type { Sent, ToSender } from './sender-protocol.ts';

const EVERY_MS = 20;
/** Frames of each kind in so long. */
const FRAMES = 10;
const ATTACK_FRAMES = 40;
/** Frames of an attack that are made before it begins. */
const POOL = 4000;
const SEED = 4711;

const [ifname = '', seed = '1'] = process.argv.slice(2);
const sender = new PacketSender(ifname);
const usual = usualTraffic(Number(seed), '198.51.100');
const addresses = { src: '198.51.100.9', dst: '192.0.2.7' };
/** What a rule of the lab drops. */
const named = eth().ipv4(addresses).udp({ sport: 5000, dport: 9 }).payload('lab').bytes();

const sent: Sent = { usual: 0, attack: 0 };
let attack: Uint8Array[] = [];
let next = 0;

function send(frames: readonly Uint8Array[]): number {
  const offsets = new Uint32Array(frames.length + 1);
  for (const [at, frame] of frames.entries()) offsets[at + 1] = offsets[at] + frame.length;
  return sender.send(new Uint8Array(Buffer.concat(frames)), offsets);
}

function step(): void {
  sent.usual += send(Array.from({ length: FRAMES }, () => usual.packet(1)));
  send(Array.from({ length: FRAMES }, () => named));
  if (attack.length === 0) return;
  const frames = Array.from({ length: ATTACK_FRAMES }, () => attack[next++ % attack.length]);
  sent.attack += send(frames);
}

process.on('message', ({ id, kind, attack: name }: ToSender & { id: number }) => {
  if (kind === 'start') setInterval(step, EVERY_MS);
  if (kind === 'attack') {
    // All edges are under the same attack: on the server that most of the usual traffic is for.
    const { packet } = attackOf(name, SEED, usual.servers[0]);
    attack = Array.from({ length: POOL }, (_, at) => packet(at / 1000));
  }
  if (kind === 'peace') attack = [];
  process.send?.({ id, value: sent });
});
process.on('disconnect', () => process.exit(0));
