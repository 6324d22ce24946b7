import { SluiceError } from '../base/errors.ts';
import { addon } from './addon.ts';

/**
 * Compiles a tcpdump expression with libpcap: classic BPF, 8 bytes an instruction {code u16, jt u8, jf u8, k u32}.
 * `linkType` is a DLT (1: Ethernet); the filter returns `snaplen` for what matches. USAGE with libpcap's words when
 * the expression is not valid.
 */
export function compileFilter(
  expression: string,
  linkType = 1,
  snaplen = 262144,
  optimize = true,
): Uint8Array {
  const result = addon().compileFilter(expression, linkType, snaplen, optimize);
  if (typeof result !== 'string') return result;
  throw new SluiceError('USAGE', `the filter expression is not valid: ${result.trim()}`, {
    help: 'pcap-filter(7) describes the language',
  });
}

/** What libpcap's interpreter returns for a packet: 0 is no match. */
export function runClassicFilter(
  filter: Uint8Array,
  packet: Uint8Array,
  wireLength: number = packet.length,
): number {
  const result = addon().runFilter(filter, packet, wireLength);
  if (result < 0) throw new SluiceError('USAGE', 'the classic BPF program is not valid');
  return result;
}

const bytesOf = (words: Uint32Array) => new Uint8Array(words.buffer, words.byteOffset, words.byteLength);

/**
 * Runs libpcap's interpreter over many packets in one call. `frames` has three words a packet: offset in `memory`, captured
 * length, length on the wire; `returns` gets what the filter returns for each. Packets that match.
 */
export function runClassicFilterBatch(
  filter: Uint8Array,
  memory: Uint8Array,
  frames: Uint32Array,
  returns: Uint32Array,
): number {
  const matched = addon().runFilterBatch(filter, memory, bytesOf(frames), bytesOf(returns));
  if (matched < 0) throw new SluiceError('USAGE', 'the classic BPF program is not valid');
  return matched;
}

/** The DLT of a name such as EN10MB (any case, `DLT_` in front or not), or undefined. */
export function linkTypeValue(name: string): number | undefined {
  const value = addon().linkTypeValue(name.replace(/^DLT_/i, ''));
  return value < 0 ? undefined : value;
}

/** The name of a DLT, or undefined. */
export function linkTypeName(value: number): string | undefined {
  return addon().linkTypeName(value);
}
