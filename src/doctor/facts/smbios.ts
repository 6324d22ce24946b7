import type { MemoryModule } from '../machine.ts';

const MEMORY_DEVICE = 17;
const END = 127;

/** Channel of a locator such as `CPU0_DIMM_A1`, `P1-DIMMB2`, `DIMM_C1` or `Node0_Channel2_Dimm1`. */
export function channelOf(locator: string, bank: string): string {
  const socket = /(?:CPU|P|PROC|Node|Socket)[ _]?(\d+)/i.exec(`${locator} ${bank}`)?.[1] ?? '0';
  const named = /channel[ _]?(\w)/i.exec(`${locator} ${bank}`)?.[1];
  const letter = /(?:DIMM|Slot)[ _-]?([A-P])\d?$|^([A-P])\d$/i.exec(locator)?.slice(1).find(Boolean);
  return `${socket}/${(named ?? letter ?? locator).toUpperCase()}`;
}

/** Memory modules of a table of the firmware (SMBIOS 3, section 7.18). Takes any bytes and stops at the first that makes no sense. */
export function memoryModules(table: Uint8Array): MemoryModule[] {
  const out: MemoryModule[] = [];
  const view = new DataView(table.buffer, table.byteOffset, table.byteLength);
  for (let at = 0; at + 4 <= table.length; ) {
    const type = table[at];
    const length = table[at + 1];
    if (length < 4 || at + length > table.length) break;
    const strings: string[] = [];
    let end = at + length;
    // Strings, each ended by 0, the list by another one; without strings two of them.
    while (end < table.length && table[end] !== 0) {
      let stop = end;
      while (stop < table.length && table[stop] !== 0) stop++;
      strings.push(new TextDecoder('latin1').decode(table.subarray(end, stop)));
      end = stop + 1;
    }
    end += strings.length === 0 ? 2 : 1;
    if (type === MEMORY_DEVICE && length >= 0x15) {
      const text = (field: number): string => strings[table[at + field] - 1] ?? '';
      const short = view.getUint16(at + 0x0c, true);
      const extended = length >= 0x20 ? view.getUint32(at + 0x1c, true) & 0x7fff_ffff : 0;
      // 0x7fff: the size stands elsewhere; 0xffff: not known; the highest bit: kB.
      const size =
        short === 0x7fff
          ? extended
          : short === 0xffff
            ? 0
            : (short & 0x8000) !== 0
              ? (short & 0x7fff) / 1024
              : short;
      const locator = text(0x10);
      out.push({ locator, size, channel: channelOf(locator, text(0x11)) });
    }
    if (type === END) break;
    at = end;
  }
  return out;
}
