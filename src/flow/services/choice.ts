import type { FirstByte, Service } from './service.ts';

const BYTES = 256;

/** Any of these bytes. */
export function oneOf(...bytes: readonly number[]): FirstByte {
  return (byte) => bytes.includes(byte);
}

/** Bytes from `low` to `high`. */
export function between(low: number, high: number): FirstByte {
  return (byte) => byte >= low && byte <= high;
}

/** Any of these characters, letters in either case. */
export function charOf(characters: string): FirstByte {
  const known = characters.toLowerCase() + characters.toUpperCase();
  return (byte) => known.includes(String.fromCharCode(byte));
}

/** What differs between the sides: of the originator, of the responder. */
export function bySide(originator: FirstByte, responder: FirstByte): FirstByte {
  return (byte, fromOrig) => (fromOrig === 1 ? originator(byte, 1) : responder(byte, 0));
}

export const never: FirstByte = () => false;

/**
 * The services of one transport by the first byte of a side: what the first bytes cost does not grow with the number of
 * services, only with those that begin alike.
 */
export class Choice {
  /** By the byte, those of the originator behind those of the responder. */
  readonly #lists: readonly (readonly Service[])[];

  constructor(services: readonly Service[]) {
    const lists: (readonly Service[])[] = [];
    for (const side of [0, 1] as const)
      for (let byte = 0; byte < BYTES; byte++)
        lists.push(services.filter(({ first }) => first === undefined || first(byte, side)));
    this.#lists = lists;
  }

  /** Services that may begin with this byte, in the order of the list. */
  of(byte: number, fromOrig: 0 | 1): readonly Service[] {
    return this.#lists[fromOrig * BYTES + byte];
  }

  /** Whether the first bytes of a side may be those of one of the services. */
  suggests(u8: Uint8Array, offset: number, length: number, fromOrig: 0 | 1, respPort: number): boolean {
    if (length <= 0) return false;
    for (const service of this.of(u8[offset], fromOrig))
      if (service.looksLike(u8, offset, length, fromOrig, respPort)) return true;
    return false;
  }
}

/** What is chosen from, by transport. */
export interface Choices {
  readonly tcp: Choice;
  readonly udp: Choice;
}

export function choicesOf(services: readonly Service[]): Choices {
  return {
    tcp: new Choice(services.filter(({ transport }) => transport !== 'udp')),
    udp: new Choice(services.filter(({ transport }) => transport !== 'tcp')),
  };
}
