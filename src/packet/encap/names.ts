import { SluiceError } from '../../base/errors.ts';
import { LinkType } from '../link/types.ts';

/** What a mirror wraps around each frame, inside of a UDP datagram. */
export type EncapKind = 'vxlan' | 'geneve' | 'geneve+vxlan' | 'raw';

export interface Encapsulation {
  kind: EncapKind;
  /** Bytes of the datagram that come before the encapsulation's header (raw: before the frame). */
  skip: number;
  /**
   * libpcap DLT of the frames inside. GENEVE names it in its header: there this is taken for protocol types that name none of
   * the known ones, and -1 leaves such frames out.
   */
  linkType: number;
}

/** An encapsulation, and the UDP port that it comes to. */
export interface EncapOnPort {
  encapsulation: Encapsulation;
  port: number;
}

const KINDS: readonly EncapKind[] = ['vxlan', 'geneve', 'geneve+vxlan', 'raw'];

/** The ports of RFC 7348 and RFC 8926; raw has none. */
const PORTS: Record<EncapKind, number | undefined> = {
  vxlan: 4789,
  geneve: 6081,
  'geneve+vxlan': 6081,
  raw: undefined,
};

/** Link types of mirrored frames, as pcap-linktype(7) names them in small letters. */
const LINK_TYPES: Record<string, number> = {
  en10mb: LinkType.ethernet,
  raw: LinkType.raw,
  ppp: LinkType.ppp,
};

/** The largest UDP payload over IPv4. */
const MAX_PAYLOAD = 65_507;

const usage = (message: string, help: string) => new SluiceError('USAGE', message, { help });

/** DLT number of `en10mb`, `raw` or `ppp`. Errors: USAGE. */
export function mirrorLinkType(name: string): number {
  const lower = name.toLowerCase();
  if (Object.hasOwn(LINK_TYPES, lower)) return LINK_TYPES[lower];
  throw usage(`'${name}' is no link type of a mirror`, 'one of: en10mb (Ethernet), raw (IP), ppp');
}

function wholeNumber(text: string, what: string, min: number, max: number): number {
  const value = /^\d{1,5}$/.test(text) ? Number(text) : -1;
  if (value >= min && value <= max) return value;
  throw usage(`'${text}' is not a ${what}`, `a whole number from ${min} to ${max}`);
}

/** A UDP port other than 0. Errors: USAGE. */
export function mirrorPort(text: string): number {
  return wholeNumber(text, 'UDP port', 1, 65_535);
}

/**
 * An encapsulation from its name (`vxlan`, `geneve`, `geneve+vxlan`, `raw`, or `skip=N` for raw behind N bytes) with the texts
 * of the options `dlt` and `skip`, where given. Errors: USAGE.
 */
export function encapsulationOf(name = 'vxlan', dlt?: string, skip?: string): Encapsulation {
  const text = name.toLowerCase();
  const skipping = text.startsWith('skip=') ? text.slice('skip='.length) : undefined;
  if (skipping !== undefined && skip !== undefined)
    throw usage(`'skip' is given twice: ${skipping} and ${skip}`, 'give it once');
  const kind = skipping === undefined ? KINDS.find((known) => known === text) : 'raw';
  if (kind === undefined)
    throw usage(
      `'${name}' is no encapsulation`,
      'one of: vxlan, geneve, geneve+vxlan, raw, skip=N (raw behind N bytes)',
    );
  const linkType = dlt === undefined ? undefined : mirrorLinkType(dlt);
  const bytes = skipping ?? skip;
  return {
    kind,
    skip: bytes === undefined ? 0 : wholeNumber(bytes, 'number of bytes to skip', 0, MAX_PAYLOAD),
    linkType: linkType ?? (kind === 'geneve' ? -1 : LinkType.ethernet),
  };
}

/** The port that an encapsulation comes to unless told otherwise; undefined for raw. */
export function defaultPort({ kind }: Encapsulation): number | undefined {
  return PORTS[kind];
}

/** `ENCAP[,dlt=…][,skip=N][,port=N]`, as `--encap` has it. Errors: USAGE. */
export function parseEncap(text: string): EncapOnPort {
  const [name, ...rest] = text.split(',');
  const options: Record<string, string | undefined> = {};
  for (const part of rest) {
    const [key, value] = split(part);
    if (value === undefined || (key !== 'dlt' && key !== 'skip' && key !== 'port'))
      throw usage(`'${part}' is no option of an encapsulation`, 'options are: dlt=…, skip=N, port=N');
    if (options[key] !== undefined) throw usage(`'${key}' is given twice in '${text}'`, 'give it once');
    options[key] = value;
  }
  const encapsulation = encapsulationOf(name, options['dlt'], options['skip']);
  const port = options['port'] === undefined ? defaultPort(encapsulation) : mirrorPort(options['port']);
  if (port === undefined)
    throw usage(`'${text}' does not say which datagrams`, `raw has no port of its own: ${text},port=N`);
  return { encapsulation, port };
}

function split(part: string): [string, string | undefined] {
  const at = part.indexOf('=');
  return at < 0 ? [part, undefined] : [part.slice(0, at), part.slice(at + 1)];
}
