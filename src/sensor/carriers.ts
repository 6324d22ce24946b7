import type { RingPosition } from '../capture/source.ts';
import type { FlowEngineApi } from '../flow/types.ts';
import type { GateClient } from '../gate/client.ts';
import { Entry } from '../gate/entry.ts';
import type { Episode } from './episode.ts';

/** Whether the tunnels around a flow can be counted already; `never`: one of them is not to be. */
export type Carried = 'yes' | 'wait' | 'never';

export interface CarrierEvents {
  /** The shunt of a flow that there is now. */
  current(slot: number): Episode | undefined;
  /** A tunnel needs an entry, for the sake of what is inside. */
  begin(slot: number, inner: Episode): void;
  /** Its entry has ended without a packet to show it. */
  end(episode: Episode): void;
  /** What is inside is not shunted: a tunnel of this host. */
  refused(inner: Episode): void;
}

/**
 * Tunnels over UDP as what is inside of them is shunted: each has an entry in the gate by which the packets that are dropped
 * inside are counted for its own record (ADR 28). They stay there for as long as the tunnel has traffic.
 */
export class Carriers {
  readonly #engine: FlowEngineApi;
  readonly #gate: GateClient;
  readonly #ring: RingPosition;
  readonly #isLocal: (family: 4 | 6, key: Uint8Array) => boolean;
  readonly #events: CarrierEvents;
  readonly #entry = new Entry();

  constructor(
    parts: {
      engine: FlowEngineApi;
      gate: GateClient;
      ring: RingPosition;
      isLocal: (family: 4 | 6, key: Uint8Array) => boolean;
    },
    events: CarrierEvents,
  ) {
    this.#engine = parts.engine;
    this.#gate = parts.gate;
    this.#ring = parts.ring;
    this.#isLocal = parts.isLocal;
    this.#events = events;
  }

  /** Of the tunnels around a flow that is to be shunted; asks for the entries that are missing. */
  around(inner: Episode): Carried {
    const { carriers, ends } = this.#engine.tunnelsAround(inner.slot);
    const local = ends.some((words) =>
      this.#isLocal(
        words.length === 2 ? 4 : 6,
        new Uint8Array(words.buffer, words.byteOffset, words.byteLength),
      ),
    );
    const states = carriers.map((slot) => this.#stateOf(slot, inner));
    if (local || states.includes('never')) {
      inner.phase = 'refused';
      this.#events.refused(inner);
      return 'never';
    }
    return states.includes('wait') ? 'wait' : 'yes';
  }

  #stateOf(slot: number, inner: Episode): Carried {
    if (slot < 0) return 'wait';
    const current = this.#events.current(slot);
    if (current === undefined) {
      this.#events.begin(slot, inner);
      return 'wait';
    }
    if (current.phase === 'refused') return 'never';
    if (current.phase !== 'shunted') return 'wait';
    if (!this.#gate.read(current.family, current.key, false, this.#entry)) return 'wait';
    if (!this.#entry.ending) return 'yes';
    // None of its own packets shows that: they pass uncounted.
    if (this.#ring.position >= current.barrier) this.#events.end(current);
    return 'wait';
  }
}
