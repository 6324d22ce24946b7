/** Languages to classic BPF: tcpdump, DNS queries, p0f signatures, QUIC, domain suffixes, raw classic BPF. */
import type { CbpfProgram } from '../ebpf/index.ts';
import { parseCbpf } from './cbpf/parse.ts';
import { compileDns } from './dns/compile.ts';
import { parseDns, parseSuffix } from './dns/language.ts';
import { compileP0f } from './p0f/compile.ts';
import { parseP0f } from './p0f/signature.ts';
import { compileQuic } from './quic/compile.ts';
import { parseQuic } from './quic/language.ts';
import { compileTcpdump } from './tcpdump.ts';

export { emitC, emitDdd, emitIptables, emitLine } from './cbpf/emit.ts';
export { FilterError, type Span } from './problem.ts';
export { ClassicEngine, type FilterEngine, FrameBatch } from './run-classic.ts';
export { KernelEngine, loadFilter } from './run-kernel.ts';

/** Names of the languages (docs/filters.md). */
export const LANGUAGES = ['tcpdump', 'dns', 'p0f', 'quic', 'suffix', 'cbpf'] as const;
export type Language = (typeof LANGUAGES)[number];

export interface FilterOptions {
  /** DLT of the frames; default 1, Ethernet. Raw classic BPF is what it is. */
  linkType?: number;
  /** What a match returns; default 262144, as of tcpdump. */
  snaplen?: number;
  /** Whether libpcap optimises a tcpdump expression; default: yes. */
  optimize?: boolean;
}

/** What libpcap has for a maximum. */
export const DEFAULT_SNAPLEN = 262_144;
const ETHERNET = 1;
/** The numbers in files that differ from libpcap's on Linux (pcap-linktype(7)). */
const DLT_OF_LINKTYPE: Record<number, number> = { 100: 11, 101: 12 };

/** The DLT for the link type of a capture file. */
export function dltOf(linkType: number): number {
  return DLT_OF_LINKTYPE[linkType] ?? linkType;
}

/**
 * Compiles a text of one of the languages to a valid classic BPF program. FILTER_INVALID (a FilterError with the place) for a text
 * that is not valid, FILTER_UNSUPPORTED for what cannot be built or has no room in 4,096 instructions.
 */
export function compileFilterText(
  text: string,
  language: Language,
  options: FilterOptions = {},
): CbpfProgram {
  const { snaplen = DEFAULT_SNAPLEN, optimize = true } = options;
  const linkType = dltOf(options.linkType ?? ETHERNET);
  switch (language) {
    case 'tcpdump':
      return compileTcpdump(text, linkType, snaplen, optimize);
    case 'dns':
      return compileDns(parseDns(text), text, linkType, snaplen);
    case 'suffix':
      return compileDns(parseSuffix(text), text, linkType, snaplen);
    case 'p0f':
      return compileP0f(parseP0f(text), text, linkType, snaplen);
    case 'quic':
      return compileQuic(parseQuic(text), linkType, snaplen);
    default:
      return parseCbpf(text);
  }
}
