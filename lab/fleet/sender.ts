// Runs inside a namespace: sends frames out of an interface until it is ended. Argument: the interface.
import { PacketSender } from '../../src/kernel/index.ts';
import type { Sent, ToSender } from './sender-protocol.ts';
import { attackFrames, namedFrame, usualFrames } from './traffic.ts';

const EVERY_MS = 20;
/** Frames of each kind in so long. */
const FRAMES = 10;
const ATTACK_FRAMES = 40;

/** Frames to be sent in turn. */
class Pool {
  readonly #frames: readonly Uint8Array[];
  #next = 0;

  constructor(frames: readonly Uint8Array[]) {
    this.#frames = frames;
  }

  /** Answers how many went out. */
  send(count: number): number {
    const frames = Array.from({ length: count }, () => this.#frames[this.#next++ % this.#frames.length]);
    const offsets = new Uint32Array(count + 1);
    for (const [at, frame] of frames.entries()) offsets[at + 1] = offsets[at] + frame.length;
    return sender.send(new Uint8Array(Buffer.concat(frames)), offsets);
  }
}

const [ifname = ''] = process.argv.slice(2);
const sender = new PacketSender(ifname);
const pools = {
  usual: new Pool(usualFrames()),
  named: new Pool([namedFrame()]),
  attack: new Pool(attackFrames()),
};
const sent: Sent = { usual: 0, attack: 0 };
let attacking = false;
let isHeld = false;

function step(): void {
  if (isHeld) return;
  sent.usual += pools.usual.send(FRAMES);
  pools.named.send(FRAMES);
  if (attacking) sent.attack += pools.attack.send(ATTACK_FRAMES);
}

process.on('message', ({ id, kind }: ToSender & { id: number }) => {
  if (kind === 'start') setInterval(step, EVERY_MS);
  else if (kind === 'hold' || kind === 'go') isHeld = kind === 'hold';
  else attacking = kind === 'attack';
  process.send?.({ id, value: sent });
});
process.on('disconnect', () => process.exit(0));
