import { SluiceError } from '../base/errors.ts';
import { BpfMap, type FileLock, lockFile, RingBuffer } from '../kernel/index.ts';
import { SlSample } from '../rules/layout.gen.ts';
import { monotonicSeconds } from './clock.ts';
import type { Place } from './control-places.ts';
import { samplesPin } from './daemon-rules.ts';

/** A packet that a rule of action sample has chosen. */
export interface RuleSample {
  /** Of the rule: `number` in `rule.list`. */
  readonly number: number;
  /** Seconds since 1970, of the tick that it came in. */
  readonly ts: number;
  /** Length of the frame. */
  readonly length: number;
  readonly ifindex: number;
  /** The beginning of the frame; the reader's own. */
  readonly bytes: Uint8Array;
}

/** Reads the samples of a gate's rules, as they come. One reader a gate. */
export class RuleSamples {
  readonly #map: BpfMap;
  readonly #ring: RingBuffer;
  readonly #lock: FileLock;

  /** @throws SluiceError NOT_FOUND when the gate has had no rules, EXISTS when somebody reads already, PRIVILEGE */
  constructor(place: Place, told: (sample: RuleSample) => void) {
    const lock = lockFile(`${place.rules}.reader`);
    if (lock === undefined)
      throw new SluiceError('EXISTS', 'somebody reads the samples of this gate already');
    this.#lock = lock;
    try {
      this.#map = BpfMap.openPinned(samplesPin(place));
    } catch (cause) {
      lock.remove();
      throw new SluiceError('NOT_FOUND', 'this gate has no samples', {
        cause,
        help: "add a rule first: sluice rule add 'udp' --action sample=100",
      });
    }
    const { members, size } = SlSample;
    const began = Date.now() / 1000 - monotonicSeconds();
    try {
      this.#ring = new RingBuffer(this.#map, (view, offset, length) => {
        const word = (at: number): number => view.getUint32(offset + at, true);
        if (length < size) return;
        const captured = Math.min(word(members.captured), length - size);
        const start = view.byteOffset + offset + size;
        const ns = word(members.time) + word(members.time + 4) * 4_294_967_296;
        told({
          number: word(members.rule),
          ts: began + ns / 1e9,
          length: word(members.frame_len),
          ifindex: word(members.ifindex),
          bytes: new Uint8Array(view.buffer.slice(start, start + captured)),
        });
      });
    } catch (error) {
      this.#map.close();
      lock.remove();
      throw error;
    }
  }

  /** Hands over what has come meanwhile. */
  poll(): void {
    this.#ring.poll();
  }

  close(): void {
    this.#ring.close();
    this.#map.close();
    this.#lock.remove();
  }
}
