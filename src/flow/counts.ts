import {
  C_ENDPOINT,
  C_ENDPOINT_WORDS,
  CEP_PACKETS_HIGH,
  COLD_WORDS,
  DOUBLES,
  F_IP_BYTES,
  PACKETS,
  WORDS,
} from './layout.ts';
import type { FlowTable } from './table.ts';
import type { Side } from './types.ts';

const WRAP = 4_294_967_296;

/** Packets and IP bytes of all flows by side. */
export class Counts {
  readonly #words: Int32Array;
  readonly #doubles: Float64Array;
  readonly #cold: Int32Array;

  constructor(table: FlowTable) {
    this.#words = table.words;
    this.#doubles = table.doubles;
    this.#cold = table.cold;
  }

  /** One packet. */
  count(slot: number, side: Side, ipBytes: number): void {
    const words = this.#words;
    const doubles = this.#doubles;
    const at = slot * WORDS + PACKETS + side;
    const packets = (words[at] + 1) | 0;
    words[at] = packets;
    if (packets === 0) this.#cold[highOf(slot, side)]++;
    const bytes = slot * DOUBLES + F_IP_BYTES + side;
    doubles[bytes] = doubles[bytes] + ipBytes;
  }

  add(slot: number, side: Side, packets: number, ipBytes: number): void {
    this.#set(slot, side, this.packets(slot, side) + packets, this.ipBytes(slot, side) + ipBytes);
  }

  packets(slot: number, side: Side): number {
    return this.#cold[highOf(slot, side)] * WRAP + (this.#words[slot * WORDS + PACKETS + side] >>> 0);
  }

  ipBytes(slot: number, side: Side): number {
    return this.#doubles[slot * DOUBLES + F_IP_BYTES + side];
  }

  /** What was counted of one side is that of the other from now on. */
  exchange(slot: number): void {
    const packets = this.packets(slot, 0);
    const ipBytes = this.ipBytes(slot, 0);
    this.#set(slot, 0, this.packets(slot, 1), this.ipBytes(slot, 1));
    this.#set(slot, 1, packets, ipBytes);
  }

  #set(slot: number, side: Side, packets: number, ipBytes: number): void {
    this.#words[slot * WORDS + PACKETS + side] = packets % WRAP;
    this.#cold[highOf(slot, side)] = Math.floor(packets / WRAP);
    this.#doubles[slot * DOUBLES + F_IP_BYTES + side] = ipBytes;
  }
}

function highOf(slot: number, side: Side): number {
  return slot * COLD_WORDS + C_ENDPOINT + side * C_ENDPOINT_WORDS + CEP_PACKETS_HIGH;
}
