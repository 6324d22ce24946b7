import { parse } from 'yaml';
import { SluiceError } from '../../base/errors.ts';
import { parseCpuList } from '../../kernel/index.ts';
import { RSS_CHECKS } from '../checks/rss.ts';
import type { Machine, Nic } from '../machine.ts';
import { cpuText, nearCpus, rxQueueCount } from '../view.ts';
import { Findings, judgePins, numberOf, type SensorReview, workerCpus } from './common.ts';

type Section = Readonly<Record<string, unknown>>;

const section = (value: unknown): Section =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Section) : {};
const list = (value: unknown): Section[] => (Array.isArray(value) ? value.map(section) : []);
const text = (value: unknown): string =>
  typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean' ? String(value) : '';
/** YAML 1.1's booleans are text for a parser of 1.2. */
const yes = (value: unknown): boolean => /^(yes|true|on|1)$/i.test(text(value));

/** @throws SluiceError FILE_FORMAT */
export function parseSuricata(yaml: string, file: string): Section {
  try {
    return section(parse(yaml, { maxAliasCount: 100, logLevel: 'error', version: '1.1', uniqueKeys: false }));
  } catch (error) {
    throw new SluiceError('FILE_FORMAT', `${file} is not YAML`, { cause: error });
  }
}

function isSymmetric(machine: Machine, nic: Nic): boolean {
  const check = RSS_CHECKS.find(({ id }) => id === 'rss.symmetric');
  return check?.run({ ...machine, nics: [nic] }).every(({ level }) => level === 'ok') ?? true;
}

function judgeCluster(
  found: Findings,
  entry: Section,
  machine: Machine,
  nic: Nic,
  threads: number | undefined,
): void {
  const type = text(entry['cluster-type']) || 'cluster_flow';
  const queues = rxQueueCount(nic);
  if (type === 'cluster_flow') {
    if (yes(entry.defrag ?? true)) found.ok('cluster', 'cluster_flow, with defrag');
    else
      found.bad(
        'cluster',
        'warning',
        'cluster_flow without defrag',
        "the kernel's hash sends fragments without ports to another thread than their first one",
        'defrag: yes',
      );
    return;
  }
  if (type === 'cluster_qm' || type === 'cluster_cpu') {
    if (!isSymmetric(machine, nic))
      found.bad(
        'cluster',
        'problem',
        `${type}, but the receive hash of ${nic.name} is not proven symmetric`,
        'a thread gets what its queue gets: with the directions of a connection in two queues no thread sees both',
        'the fix of rss.symmetric, or cluster_flow',
      );
    else if (threads !== undefined && threads !== queues)
      found.bad(
        'cluster',
        'problem',
        `${type} with ${threads} threads, ${nic.name} has ${queues} queues`,
        'queues without a thread of their own share one, or threads get nothing',
        `threads: ${queues}, or ethtool -L ${nic.name} combined ${threads}`,
      );
    else found.ok('cluster', `${type}, ${queues} queues`);
    return;
  }
  found.bad(
    'cluster',
    type === 'cluster_ebpf' ? 'note' : 'warning',
    type,
    type === 'cluster_ebpf'
      ? "Suricata's own load balancer reads addresses where the Ethernet header would be, which a fanout program does not see: check that threads get equal parts"
      : 'connections are spread over several threads',
    'cluster-type: cluster_flow',
  );
}

/** The section of `threading` that names the CPUs of workers, in its old form (a list) and its new one. */
function workerSet(config: Section): readonly number[] | undefined {
  const threading = section(config.threading);
  if (!yes(threading['set-cpu-affinity'])) return undefined;
  const affinity = threading['cpu-affinity'];
  const sets = Array.isArray(affinity) ? Object.assign({}, ...list(affinity)) : section(affinity);
  const cpus = section((sets as Section)['worker-cpu-set']).cpu;
  if (cpus === undefined) return undefined;
  const words = (Array.isArray(cpus) ? cpus : [cpus]).map(text).join(',').replaceAll('"', '');
  return words === 'all' ? undefined : parseCpuList(words);
}

export function reviewSuricata(yaml: string, file: string, machine: Machine, nic: Nic): SensorReview {
  const config = parseSuricata(yaml, file);
  const found = new Findings('suricata', nic.name);
  const entries = list(config['af-packet']);
  const base = entries.find((entry) => entry.interface === 'default') ?? {};
  const named = entries.find((entry) => entry.interface === nic.name);
  const wish = workerCpus(machine, nic);
  const stanza = stanzaOf(machine, nic, wish);
  if (named === undefined) {
    found.bad(
      'interface',
      'problem',
      `no entry of af-packet for ${nic.name}${entries.length === 0 ? '' : ` (there are: ${entries.map((entry) => text(entry.interface)).join(', ')})`}`,
      'Suricata does not listen there, or with defaults',
      'put the stanza below into it',
    );
    return { sensor: 'suricata', file, findings: found.all, stanza };
  }
  const entry: Section = { ...base, ...named };
  found.ok('interface', `af-packet on ${nic.name}`);
  const threads = numberOf(entry.threads);
  const near = nearCpus(machine, nic).length;
  if (threads === undefined)
    found.bad(
      'threads',
      'note',
      `threads: ${text(entry.threads) || 'auto'}`,
      `a thread for each CPU of the machine, those with interrupts and those of other nodes too`,
      `threads: ${wish.length}`,
    );
  else if (threads > near)
    found.bad(
      'threads',
      'warning',
      `${threads} threads, ${near} CPUs near ${nic.name}`,
      'some share a CPU or run far from the card',
      `threads: ${wish.length}`,
    );
  else found.ok('threads', `${threads}`);
  judgeCluster(found, entry, machine, nic, threads);
  const id = text(entry['cluster-id']);
  const same = entries.filter((each) => each.interface !== 'default' && text(each['cluster-id']) === id);
  if (id !== '' && same.length > 1)
    found.bad(
      'cluster-id',
      'problem',
      `cluster-id ${id} on ${same.map((each) => text(each.interface)).join(' and ')}`,
      'a fanout group is for one interface: the second does not start',
      'a cluster-id of its own for each interface',
    );
  else found.ok('cluster-id', id || 'default');
  if (entry['tpacket-v3'] !== undefined && !yes(entry['tpacket-v3']))
    found.bad(
      'ring',
      'note',
      'tpacket-v3: no',
      'version 2 gives every packet a slot of the largest length, and a wake-up',
      'tpacket-v3: yes',
    );
  else found.ok('ring', 'tpacket-v3');
  if (
    text(entry['xdp-filter-file']) !== '' &&
    yes(entry['pinned-maps'] ?? false) &&
    yes(entry['use-percpu-hash'] ?? true)
  )
    found.bad(
      'percpu',
      'warning',
      'use-percpu-hash: yes with pinned maps',
      'it sizes its buffers by the CPUs that it is told of, the kernel writes those that there can be',
      'use-percpu-hash: no',
    );
  const cpus = workerSet(config);
  if (cpus === undefined)
    found.bad(
      'cpus',
      'warning',
      'threading.set-cpu-affinity is off, or worker-cpu-set is all',
      'threads move between CPUs and nodes, away from their tables and rings',
      `worker-cpu-set: [${cpuText(wish)}]`,
    );
  else judgePins(found, machine, nic, cpus);
  return { sensor: 'suricata', file, findings: found.all, stanza };
}

function stanzaOf(machine: Machine, nic: Nic, cpus: readonly number[]): string {
  const workers = new Set(cpus);
  const rest = machine.cpu.list.filter(({ id }) => !workers.has(id)).map(({ id }) => id);
  return `af-packet:
  - interface: ${nic.name}
    threads: ${cpus.length}
    cluster-id: 99
    cluster-type: cluster_flow
    defrag: yes
    use-mmap: yes
    mmap-locked: yes
    tpacket-v3: yes
    ring-size: 100000
    block-size: 1048576

threading:
  set-cpu-affinity: yes
  cpu-affinity:
    management-cpu-set:
      cpu: [ "${cpuText(rest.length > 0 ? rest : cpus)}" ]
    worker-cpu-set:
      cpu: [ "${cpuText(cpus)}" ]
      mode: "exclusive"
`;
}
