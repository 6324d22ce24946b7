import { type SnapHandles, SnapTable } from '../capture/snap.ts';
import type { FlowEngine } from '../flow/index.ts';
import { BpfMap } from '../kernel/index.ts';

const TCP = 6;
const UDP = 17;

/**
 * Tells the filter of a ring of which flows headers are enough: nothing looks at their content any more. TCP with both sides
 * heard; UDP only when it turned out to be TLS (QUIC, DTLS), as any other datagram may still carry a name or a tunnel.
 */
export class ContentCut {
  readonly #engine: FlowEngine;
  readonly #map: BpfMap;
  readonly #table: SnapTable;
  readonly #marked: Uint8Array;
  flows = 0;

  constructor(engine: FlowEngine, handles: SnapHandles, maxFlows: number) {
    this.#engine = engine;
    this.#map = BpfMap.adopt(handles.slots);
    this.#table = new SnapTable(this.#map, handles.seed);
    this.#marked = new Uint8Array(maxFlows);
  }

  /** After each packet of a flow. */
  look(slot: number): void {
    if (this.#marked[slot] !== 0) return;
    const engine = this.#engine;
    if (engine.content.isLearning(slot) || engine.isTunnelled(slot) || !engine.isShuntable(slot)) return;
    const proto = engine.proto(slot);
    if (proto !== TCP && (proto !== UDP || engine.tls(slot) === undefined)) return;
    this.#marked[slot] = 1;
    this.flows++;
    const { family, bytes } = engine.key(slot);
    this.#table.mark(family, bytes);
  }

  closed(slot: number): void {
    if (this.#marked[slot] === 0) return;
    this.#marked[slot] = 0;
    const { family, bytes } = this.#engine.key(slot);
    this.#table.unmark(family, bytes);
  }

  close(): void {
    this.#map.close();
  }
}
