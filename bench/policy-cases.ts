/** What `sluice bench policies` decides on: policies with sets of a size, and connections to ask them about. */
import { domainTable } from '../src/policy/domain-set.ts';
import {
  Answers,
  type FlowFacts,
  type PolicyEvents,
  type PolicyPlan,
  PolicySet,
  type PolicySpec,
  parsePolicies,
  planOf,
  readSignatures,
  setsOf,
} from '../src/policy/index.ts';
import { cpuSeconds } from './measure.ts';
import {
  connection,
  domains,
  Maker,
  type Networks,
  networks,
  prefixesOf,
  signatures,
} from './policy-tables.ts';

/** Connections that a case asks about, half of which its set knows. */
const ASKED = 4096;
/** Signatures that are asked about in all files alike. */
const SAME = 10;

export interface Case {
  name: string;
  policies: PolicySet | undefined;
  asked: readonly FlowFacts[];
  /** What sets said of each connection in the looks before this one; undefined: it is the first, and nobody keeps answers. */
  kept?: readonly Answers[];
}

const SILENT: PolicyEvents = { noted: () => {}, spared: () => {} };
const NOBODY_TOLD = new Set<number>();

/** One decision. */
export function decide(policies: PolicySet, facts: FlowFacts, answers?: Answers): number {
  return policies.decide(facts, 0, 0, NOBODY_TOLD, SILENT, answers);
}

const spec = (name: string, when: string, action: PolicySpec['action'] = 'shunt'): PolicySpec => ({
  name,
  when,
  action,
  priority: 0,
  share: 1,
  dryRun: false,
  note: '',
});

/** An address in the network or, every second time, anywhere. */
function addressIn({ bytes, bits }: Networks, maker: Maker): Uint8Array {
  return Uint8Array.from(bytes, (byte, i) => {
    const free = Math.min(8, Math.max(0, (i + 1) * 8 - bits));
    return (byte & (0xff << free)) | maker.below(1 << free);
  });
}

/** Those without sets: the clock, and what a decision takes at least. */
export function bareCases(): Case[] {
  const maker = new Maker(5);
  const asked = Array.from({ length: ASKED }, () => connection(maker.address4(), undefined));
  const sets = setsOf(planOf([]));
  return [
    { name: 'the clock alone', policies: undefined, asked },
    {
      name: 'the floor: a policy that asks for a flag',
      policies: new PolicySet([spec('flag', 'tls.resumed')], sets),
      asked,
    },
    { name: 'no set: TLS established', policies: new PolicySet(parsePolicies(['tls']), sets), asked },
  ];
}

export function setCases(prefixes: number, suffixes: number): Case[] {
  const maker = new Maker(7);
  const nets = networks(prefixes, maker);
  const names = domains(suffixes, maker);
  const plan: PolicyPlan = {
    ...planOf([]),
    prefixes: [['nets', prefixesOf(nets)]],
    domains: [['names', domainTable(names)]],
  };
  const sets = setsOf(plan);
  const byAddress = spec('nets', 'tls.established and resp.addr in @nets');
  const byName = spec('names', 'tls.established and tls.sni in @names');
  const of = (bytes: 4 | 16) => nets.filter((net) => net.bytes.length === bytes);
  const to = (known: readonly Networks[]) =>
    Array.from({ length: ASKED }, (_, i) => {
      const net = known[maker.below(known.length)];
      if (i % 2 === 0) return addressIn(net, maker);
      return net.bytes.length === 4 ? maker.address4() : maker.address6();
    });
  const [any4, any6] = [to(of(4)), to(of(16))];
  const sni = Array.from({ length: ASKED }, (_, i) =>
    i % 2 === 0 ? `www.${names[maker.below(names.length)]}` : `cdn.${maker.domain()}`,
  );
  return [
    {
      name: 'prefixes, an IPv4 address',
      policies: new PolicySet([byAddress], sets),
      asked: any4.map((address) => connection(address, undefined)),
    },
    {
      name: 'prefixes, an IPv6 address',
      policies: new PolicySet([byAddress], sets),
      asked: any6.map((address) => connection(address, undefined)),
    },
    {
      name: 'suffixes, a server name',
      policies: new PolicySet([byName], sets),
      asked: sni.map((name, i) => connection(any4[i], name)),
    },
    ...looks(
      new PolicySet([byName, spec('keep', 'resp.addr in @nets', 'never')], sets),
      sni.map((name, i) => [(i % 4 < 2 ? any4 : any6)[i], name]),
    ),
  ];
}

/** A policy over names with a veto over addresses: each look at a connection, and all that is known at once. */
function looks(policies: PolicySet, connections: readonly (readonly [Uint8Array, string])[]): Case[] {
  const name = 'suffixes, and prefixes as a veto';
  const kept = connections.map(() => new Answers());
  const steps = (['heard', 'named', 'established'] as const).map((so): Case => {
    const asked = connections.map(([address, sni]) => connection(address, sni, so));
    const before = kept.map((answers) => Object.assign(new Answers(), answers));
    for (const [i, facts] of asked.entries()) decide(policies, facts, kept[i]);
    return { name: `${name}: ${LOOKS[so]}`, policies, asked, kept: before };
  });
  return [...steps, { name: `${name}: all at once`, policies, asked: steps[steps.length - 1].asked }];
}

const LOOKS = { heard: 'both sides heard', named: 'the name comes', established: 'TLS established' };

export interface SignatureCase extends Case {
  count: number;
  /** Names of the first ten signatures, which are the same in each file. */
  same: readonly FlowFacts[];
  readSeconds: number;
  tableSeconds: number;
}

export async function signatureCase(count: number): Promise<SignatureCase> {
  // Of the same seed: a longer file begins with the shorter one.
  const maker = new Maker(11);
  const { text, names } = signatures(count, maker);
  const begin = cpuSeconds();
  const read = await readSignatures(text);
  const middle = cpuSeconds();
  if (read.signatures.length !== count)
    throw new Error(`${read.signatures.length} of ${count} signatures were read: ${read.refused[0]?.reason}`);
  const sets = setsOf({ ...planOf([]), signatures: [['rules', read.signatures]] });
  const tableSeconds = cpuSeconds() - middle;
  return {
    name: `${count.toLocaleString('en-US')} signatures`,
    count,
    readSeconds: middle - begin,
    tableSeconds,
    policies: new PolicySet([spec('rules', 'signature in @rules')], sets),
    same: Array.from({ length: ASKED }, (_, i) =>
      connection(
        maker.address4(),
        i % 2 === 0 ? `www.${names[i % Math.min(SAME, count)]}` : `cdn.${names[i % Math.min(SAME, count)]}`,
      ),
    ),
    asked: Array.from({ length: ASKED }, (_, i) =>
      connection(
        maker.address4(),
        i % 2 === 0 ? `www.${names[maker.below(names.length)]}` : `cdn.${maker.domain()}`,
      ),
    ),
  };
}
