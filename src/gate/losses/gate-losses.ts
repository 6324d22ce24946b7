import type { Gate } from '../gate.ts';
import { type CounterReading, LossLedger, type LossTable } from './ledger.ts';
import { gateReadings, PathReader } from './path.ts';

/** The ledger of losses of a gate that stands before another sensor: cards, softnet, and the gate itself. */
export class GateLosses {
  readonly #gate: Gate;
  readonly #modes: () => readonly { interface: string; mode: string }[];
  readonly #path = new PathReader();
  readonly #ledger = new LossLedger();

  /** `modes`: the gate's interfaces, and how it is attached to each. */
  constructor(gate: Gate, modes: () => readonly { interface: string; mode: string }[]) {
    this.#gate = gate;
    this.#modes = modes;
  }

  /** Reads the counters: to be called once a second. */
  look(): void {
    const out: CounterReading[] = [];
    const points = this.#modes().map(({ interface: ifname, mode }) => ({ ifname, mode, sockets: false }));
    this.#path.read(points, false, out);
    gateReadings(this.#gate, out);
    this.#ledger.take(Date.now() / 1000, out);
  }

  table(): LossTable {
    return this.#ledger.table();
  }
}
