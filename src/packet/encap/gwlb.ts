import type { Packet } from '../packet.ts';
import { GWLB_CLASS } from './geneve-options.ts';

const Type = { endpoint: 1, attachment: 2, flowCookie: 3 } as const;

/**
 * What AWS Gateway Load Balancer says of a packet in its GENEVE options: 64-bit numbers as high and low words. The cookie
 * is one per flow, and the same in both directions.
 */
export class GwlbMetadata {
  endpointHigh = 0;
  endpointLow = 0;
  attachmentHigh = 0;
  attachmentLow = 0;
  flowCookie = 0;

  /** Reads them from the options of a packet that a Decapsulator has opened; false: not all three are there. */
  read(packet: Packet): boolean {
    const { u8, optionsAt, optionsBytes } = packet;
    const to = optionsAt + optionsBytes;
    let found = 0;
    for (let at = optionsAt; at + 4 <= to; ) {
      const data = at + 4;
      const bytes = (u8[at + 3] & 0x1f) * 4;
      if (data + bytes > to) return false;
      if (((u8[at] << 8) | u8[at + 1]) === GWLB_CLASS) found |= this.#take(u8, u8[at + 2], data, bytes);
      at = data + bytes;
    }
    return found === 7;
  }

  #take(u8: Uint8Array, type: number, at: number, bytes: number): number {
    if (type === Type.endpoint && bytes === 8) {
      this.endpointHigh = word(u8, at);
      this.endpointLow = word(u8, at + 4);
      return 1;
    }
    if (type === Type.attachment && bytes === 8) {
      this.attachmentHigh = word(u8, at);
      this.attachmentLow = word(u8, at + 4);
      return 2;
    }
    if (type === Type.flowCookie && bytes === 4) {
      this.flowCookie = word(u8, at);
      return 4;
    }
    return 0;
  }
}

/** A VPC endpoint as AWS names it, from the two words of its id: 17 hexadecimal digits, of which the first is 0. */
export function endpointText(high: number, low: number): string {
  return `vpce-0${hex(high)}${hex(low)}`;
}

/** An attachment, from the two words of its id. */
export function attachmentText(high: number, low: number): string {
  return `${hex(high)}${hex(low)}`;
}

function word(u8: Uint8Array, at: number): number {
  return ((u8[at] << 24) | (u8[at + 1] << 16) | (u8[at + 2] << 8) | u8[at + 3]) >>> 0;
}

function hex(value: number): string {
  return value.toString(16).padStart(8, '0');
}
