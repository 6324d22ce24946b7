import { IpProto } from '../packet/decode.ts';

/** A TCP connection is judged when it has ended with so many packets, and its speaker did more than begin (A, D or F). */
const JUDGED_PACKETS = 4;
/** Connections judged since the last look before there is another one. */
const WINDOW = 20;
/** Shares of one-way connections at which it is told, and below which it is taken back. */
const RAISE = 0.1;
const CLEAR = 0.05;

const SPOKE = /[adf]/i;

/**
 * Whether a TCP connection that has ended was seen in both directions: undefined when it does not tell. Scans, refused attempts
 * and answers to forged ones have no acknowledgement, data or FIN of the side that was seen, and are not judged: what is left
 * had a peer that answered, and was not seen answering.
 */
export function isOneWay(
  ipProto: number,
  packets: number,
  otherPackets: number,
  history: string,
): boolean | undefined {
  if (ipProto !== IpProto.tcp || packets + otherPackets < JUDGED_PACKETS || !SPOKE.test(history))
    return undefined;
  return packets === 0 || otherPackets === 0;
}

/** Tells when a worker sees one direction only of too many connections, and when that is over. */
export class OneWayWatch {
  #raised = false;
  #judged = 0;
  #oneWay = 0;

  /** The worker's totals; what is to be told now, if anything. */
  look(judged: number, oneWay: number): { raised: boolean; share: number; of: number } | undefined {
    const of = judged - this.#judged;
    if (of < WINDOW) return undefined;
    const share = (oneWay - this.#oneWay) / of;
    this.#judged = judged;
    this.#oneWay = oneWay;
    if (this.#raised ? share >= CLEAR : share < RAISE) return undefined;
    this.#raised = !this.#raised;
    return { raised: this.#raised, share, of };
  }
}
