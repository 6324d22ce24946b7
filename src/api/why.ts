import type { FlowName } from '../gate/flow-key.ts';
import type { FlowAnswer } from '../sensor/live-gate.ts';
import type { TailSearch } from './log-tail.ts';

export type Why =
  | 'shunted'
  | 'armed'
  | 'ending'
  | 'pair'
  | 'passing'
  | 'ended-shunted'
  | 'ended-whole'
  | 'unknown';

export interface WhyAnswer {
  why: Why;
  /** For people: sentences. */
  text: string;
}

const count = (n: number): string => n.toLocaleString('en-US');
const time = (seconds: number | null): string =>
  seconds === null ? 'an unknown time' : new Date(seconds * 1000).toISOString().replace(/\.\d+/, '');

const nameOf = (value: unknown): string => (typeof value === 'string' ? value : 'the gate');

/** Where ids tell flows apart, one without an id is another flow. */
function hint(gates: readonly FlowAnswer[], { vlan, vni, geneveVni = 0 }: FlowName): string {
  const missing = [
    vlan === 0 && gates.some(({ keys }) => keys.vlan) ? 'VLAN (vlan 100)' : '',
    vni + geneveVni === 0 && gates.some(({ keys }) => keys.tunnel)
      ? 'tunnel (vni 5000, geneve-vni 5000)'
      : '',
  ].filter((text) => text !== '');
  return missing.length === 0
    ? ''
    : ` Flows are told apart by their ids here: name its ${missing.join(' or ')}.`;
}

/** Why a sensor behind these gates did, or did not, see a flow: from what is live, then from what has ended. */
export function whyOf(flow: FlowName, gates: readonly FlowAnswer[], conn: TailSearch | undefined): WhyAnswer {
  for (const { interface: name, shunt } of gates) {
    if (shunt === null) continue;
    const pkts = shunt.ab.pkts + shunt.ba.pkts;
    const bytes = shunt.ab.ipBytes + shunt.ba.ipBytes;
    const by = shunt.trigger === '' ? 'by hand' : `by ${shunt.trigger}`;
    const dropped = `the gate of ${name} has dropped ${count(pkts)} packets (${count(bytes)} IP bytes) of it`;
    if (shunt.state === 'shunted')
      return {
        why: 'shunted',
        text: `It is shunted ${by} since ${time(shunt.since)}: ${dropped} before the sensor. Its record will count all of them.`,
      };
    if (shunt.state === 'armed')
      return {
        why: 'armed',
        text: `It is about to be shunted ${by} at ${name}; until then every packet reaches the sensor.`,
      };
    return { why: 'ending', text: `Its shunt ends: packets pass again, after ${dropped} ${by}.` };
  }
  for (const { interface: name, pairs } of gates) {
    const [pair] = pairs;
    if (pair !== undefined)
      return {
        why: 'pair',
        text: `Everything between ${pair.a} and ${pair.b} is dropped at ${name}, ${pair.expires === null ? 'as long as its owner lives' : `until ${time(pair.expires)}`}.`,
      };
  }
  const followed = gates.filter((gate) => gate.followed);
  if (followed.length > 0) {
    const kept = followed.flatMap(({ exceptions, holds }) => [
      ...exceptions.map((prefix) => `${prefix} is never shunted`),
      ...holds.map(({ holder }) => `${holder} holds it`),
    ]);
    const why = kept.length === 0 ? 'no policy has asked for it to be shunted' : kept.join('; ');
    return { why: 'passing', text: `Its packets reach the sensor: ${why}.` };
  }
  const record = conn?.records.at(-1);
  if (record !== undefined) {
    const of = (name: string): number => Number(record[name] ?? 0);
    const pkts = of('orig_shunted_pkts') + of('resp_shunted_pkts');
    if (pkts === 0)
      return {
        why: 'ended-whole',
        text: 'It has ended, and nothing of it was shunted: the sensor could see all of it.',
      };
    const bytes = of('orig_shunted_bytes') + of('resp_shunted_bytes');
    return {
      why: 'ended-shunted',
      text: `It has ended. ${count(pkts)} of its packets (${count(bytes)} IP bytes) were shunted by ${nameOf(record['shunt_trigger'])}, and are counted in its record.`,
    };
  }
  const where =
    conn === undefined
      ? 'there is no conn.log to search'
      : conn.whole
        ? 'conn.log does not have it'
        : `the last ${count(Math.round(conn.bytes / 1e6))} MB of conn.log do not have it`;
  return {
    why: 'unknown',
    text: `No worker follows it, no gate drops it, and ${where}.${hint(gates, flow)} What rules drop is in the counters of the rules alone; sluice query looks through older logs.`,
  };
}
