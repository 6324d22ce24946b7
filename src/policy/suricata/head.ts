import type { FactAddress, FlowFacts } from '../fields.ts';
import { hasAddress } from '../prefix-set.ts';
import type { AddressSet, PortSet, Signature } from './signature.ts';

/** All of a signature but its contents: thousands of them have the same few. */
export type Head = Pick<
  Signature,
  | 'protocol'
  | 'services'
  | 'notServices'
  | 'established'
  | 'source'
  | 'sourcePort'
  | 'target'
  | 'targetPort'
  | 'from'
>;

/** The different heads of these signatures, and which one each has. */
export function headsOf(signatures: readonly Signature[]): { heads: readonly Head[]; of: Uint32Array } {
  const heads: Head[] = [];
  const known = new Map<string, number>();
  // Tables are shared by the signatures of a file.
  const tables = new Map<object, number>();
  const numberOf = (set: AddressSet | undefined): number => {
    if (set === undefined) return 0;
    const number = tables.get(set) ?? tables.size + 1;
    tables.set(set, number);
    return number;
  };
  const of = Uint32Array.from(signatures, (s) => {
    const { protocol, services, notServices, established, sourcePort, targetPort, from } = s;
    const parts = [protocol, services, notServices, established, sourcePort, targetPort, from];
    const key = JSON.stringify([...parts, numberOf(s.source), numberOf(s.target)]);
    const number = known.get(key) ?? heads.push(s) - 1;
    known.set(key, number);
    return number;
  });
  return { heads, of };
}

export function headHolds(s: Head, facts: FlowFacts): boolean {
  if (s.protocol !== undefined && s.protocol !== facts.protocol) return false;
  const { services } = facts;
  for (const name of s.services) if (!services.includes(name)) return false;
  for (const name of s.notServices) if (services.includes(name)) return false;
  if (s.established && (facts.origPackets === 0 || facts.respPackets === 0)) return false;
  if (s.from !== 'resp' && sidesHold(s, facts.orig, facts.origPort, facts.resp, facts.respPort)) return true;
  return s.from !== 'orig' && sidesHold(s, facts.resp, facts.respPort, facts.orig, facts.origPort);
}

function sidesHold(
  s: Head,
  source: FactAddress,
  sourcePort: number,
  target: FactAddress,
  targetPort: number,
): boolean {
  return (
    addressHolds(s.source, source) &&
    portHolds(s.sourcePort, sourcePort) &&
    addressHolds(s.target, target) &&
    portHolds(s.targetPort, targetPort)
  );
}

function addressHolds(set: AddressSet | undefined, { u8, at, bytes }: FactAddress): boolean {
  return set === undefined || hasAddress(set.table, u8, at, bytes) !== set.negated;
}

function portHolds(set: PortSet | undefined, port: number): boolean {
  if (set === undefined) return true;
  for (const [from, to] of set.ranges) if (port >= from && port <= to) return !set.negated;
  return set.negated;
}
