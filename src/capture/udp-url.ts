import { SluiceError } from '../base/errors.ts';
import type { UdpImplementation } from '../kernel/index.ts';
import { ipBytes } from '../packet/address.ts';
import { defaultPort, type Encapsulation, encapsulationOf, mirrorPort } from '../packet/encap/index.ts';

/** Where a mirror is listened to, and what it wraps around frames. */
export interface UdpAddress {
  /** IPv4 or IPv6 in numbers, without brackets. */
  address: string;
  port: number;
  encapsulation: Encapsulation;
  implementation: UdpImplementation;
}

const IMPLEMENTATIONS: readonly UdpImplementation[] = ['recvmmsg', 'io_uring'];
const OPTIONS = ['encap', 'dlt', 'skip', 'impl'] as const;
type Option = (typeof OPTIONS)[number];
type Options = Partial<Record<Option, string>>;

const EXAMPLES =
  'udp://0.0.0.0:4789, udp://[::]:6081?encap=geneve, or as Zeek has it udp::[::1]:6081:geneve:dlt=raw';

/** Says what is wrong in which part of `text`. */
function wrong(text: string, problem: string, help: string = EXAMPLES): never {
  throw new SluiceError('USAGE', `'${text}': ${problem}`, { help });
}

/** The part of an address that `parse` refuses, with the whole of it before. */
function part<T>(text: string, name: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (!(error instanceof SluiceError)) throw error;
    return wrong(text, `${name}: ${error.message}`, error.help);
  }
}

/**
 * `udp://ADDR[:PORT][?encap=…&dlt=…&skip=N&impl=…]`, or the form of zeek-packet-source-udp,
 * `udp::ADDR[:PORT][:ENCAP][:dlt=…]`, options after colons. IPv6 addresses stand in brackets. Defaults: VXLAN, Ethernet, the
 * port of the encapsulation, recvmmsg. Errors: USAGE, which name the part.
 */
export function parseUdpUrl(text: string): UdpAddress {
  const url = text.startsWith('udp://');
  if (!url && !text.startsWith('udp::'))
    wrong(text, 'no address of a mirror: it begins with udp:// or udp::');
  const { address, rest } = host(text, text.slice(url ? 'udp://'.length : 'udp::'.length));
  return url ? fromUrl(text, address, rest) : fromZeek(text, address, rest);
}

/** Takes the address off the front. */
function host(text: string, from: string): { address: string; rest: string } {
  const bracket = from.startsWith('[');
  const end = bracket ? from.indexOf(']') : from.search(/[:?/]|$/);
  if (bracket && end < 0) wrong(text, 'address: the bracket is not closed');
  const address = bracket ? from.slice(1, end) : from.slice(0, end);
  const rest = from.slice(bracket ? end + 1 : end);
  if (address === '') {
    if (!bracket && rest.startsWith(':') && (rest.match(/:/g) ?? []).length > 1)
      wrong(text, 'address: there is none; IPv6 addresses stand in brackets');
    wrong(text, 'address: there is none');
  }
  // The zone of a link-local address is the kernel's to judge.
  const [number, zone] = address.split('%', 2);
  const length = ipBytes(number)?.length;
  if (length === undefined || (zone !== undefined && (length !== 16 || zone === '')))
    wrong(text, `address: '${address}' is no IPv4 or IPv6 address in numbers`);
  if (bracket !== (length === 16)) wrong(text, 'address: brackets are for IPv6 addresses');
  return { address, rest };
}

function fromUrl(text: string, address: string, from: string): UdpAddress {
  const [, port, query, rest] = /^(?::([^?/]*))?\/?(?:\?(.*))?()$/s.exec(from) ?? [];
  if (rest === undefined)
    wrong(text, `'${from}' behind the address: a port comes behind a colon, options behind a ?`);
  const options: Options = {};
  // Not URLSearchParams: a + is a plus here, as in geneve+vxlan.
  for (const pair of query === undefined || query === '' ? [] : query.split('&')) put(text, options, pair);
  return complete(text, address, port, options);
}

function fromZeek(text: string, address: string, from: string): UdpAddress {
  if (from === '') return complete(text, address, undefined, {});
  if (!from.startsWith(':')) wrong(text, `'${from}' behind the address: a port comes behind a colon`);
  const [port, ...parts] = from.slice(1).split(':');
  const options: Options = {};
  for (const [index, each] of parts.entries()) {
    // skip=N is an encapsulation there.
    if (index === 0 && (!each.includes('=') || each.startsWith('skip='))) put(text, options, `encap=${each}`);
    else put(text, options, each);
  }
  return complete(text, address, port, options);
}

function put(text: string, options: Options, pair: string): void {
  const at = pair.indexOf('=');
  const name = at < 0 ? pair : pair.slice(0, at);
  const key = OPTIONS.find((option) => option === name);
  if (key === undefined)
    wrong(text, `'${name}' is no option of a mirror`, `options are: ${OPTIONS.join(', ')}`);
  if (at < 0 || at + 1 === pair.length) wrong(text, `${key}: it has no value`);
  if (options[key] !== undefined) wrong(text, `${key}: it is given twice`, 'give it once');
  options[key] = pair.slice(at + 1);
}

function complete(text: string, address: string, portText: string | undefined, options: Options): UdpAddress {
  // Each by itself first, so that the message names the part.
  part(text, 'encap', () => encapsulationOf(options.encap));
  part(text, 'dlt', () => encapsulationOf(undefined, options.dlt));
  const encapsulation = part(text, 'skip', () => encapsulationOf(options.encap, options.dlt, options.skip));
  const port =
    portText === undefined ? defaultPort(encapsulation) : part(text, 'port', () => mirrorPort(portText));
  if (port === undefined) wrong(text, 'port: there is none, and raw datagrams have no port of their own');
  const implementation = IMPLEMENTATIONS.find((known) => known === (options.impl ?? 'recvmmsg'));
  if (implementation === undefined)
    wrong(
      text,
      `impl: '${options.impl ?? ''}' is no way to receive`,
      `one of: ${IMPLEMENTATIONS.join(', ')}`,
    );
  return { address, port, encapsulation, implementation };
}
