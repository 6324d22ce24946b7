import { parseCpuList } from '../../kernel/index.ts';
import { RSS_CHECKS } from '../checks/rss.ts';
import type { Machine, Nic } from '../machine.ts';
import { cpuText, nearCpus } from '../view.ts';
import { Findings, judgePins, numberOf, type SensorReview, workerCpus } from './common.ts';

export interface Node {
  name: string;
  options: Readonly<Record<string, string>>;
}

/** Zeek's default ids and sizes of the plug-in for AF_PACKET. */
const FANOUT_ID = 23;
const BUFFER = 128 * 2 ** 20;

/** Sections of node.cfg. Any text is taken; lines that are no options are passed over. */
export function parseNodeCfg(text: string): Node[] {
  const nodes: { name: string; options: Record<string, string> }[] = [];
  for (const raw of text.split('\n')) {
    const line = raw.trim();
    if (line === '' || line.startsWith('#') || line.startsWith(';')) continue;
    const head = /^\[([^\]]+)\]$/.exec(line);
    if (head !== null) {
      nodes.push({ name: head[1], options: {} });
      continue;
    }
    const option = /^([\w.-]+)\s*[=:]\s*(.*)$/.exec(line);
    const node = nodes.at(-1);
    if (option !== null && node !== undefined) node.options[option[1].toLowerCase()] = option[2].trim();
  }
  return nodes;
}

const interfaceOf = ({ options }: Node): string => (options.interface ?? '').replace(/^af_packet::/, '');

export function reviewZeek(text: string, file: string, machine: Machine, nic: Nic): SensorReview {
  const found = new Findings('zeek', nic.name);
  const nodes = parseNodeCfg(text);
  const workers = nodes.filter(({ options }) => options.type === 'worker' || options.type === 'standalone');
  const own = workers.filter((node) => interfaceOf(node) === nic.name);
  const wish = workerCpus(machine, nic);
  const stanza = stanzaOf(nic, wish);
  if (own.length === 0) {
    const there = workers.map((node) => `${node.name} on ${interfaceOf(node) || 'nothing'}`).join(', ');
    found.bad(
      'interface',
      'problem',
      `no worker on ${nic.name}${there === '' ? '' : ` (there are: ${there})`}`,
      'Zeek does not listen there',
      'put the stanza below into it',
    );
    return { sensor: 'zeek', file, findings: found.all, stanza };
  }
  for (const node of own) judge(found, node, workers, machine, nic, wish);
  return { sensor: 'zeek', file, findings: found.all, stanza };
}

function judge(
  found: Findings,
  { name, options }: Node,
  workers: readonly Node[],
  machine: Machine,
  nic: Nic,
  wish: readonly number[],
): void {
  const near = nearCpus(machine, nic).length;
  const procs = numberOf(options.lb_procs) ?? 1;
  const packet = (options.interface ?? '').startsWith('af_packet::') || options.lb_method === 'af_packet';
  if (packet) found.ok('interface', `${name}: AF_PACKET on ${nic.name}`);
  else
    found.bad(
      'interface',
      procs > 1 ? 'problem' : 'warning',
      `${name}: interface=${options.interface ?? ''}, lb_method=${options.lb_method ?? 'none'}`,
      procs > 1
        ? 'without load balancing every process sees every packet, and each connection is logged by all'
        : 'libpcap has one small buffer, and no other worker can share the interface',
      `interface=af_packet::${nic.name}, lb_method=custom`,
    );
  if (procs > near)
    found.bad(
      'processes',
      'warning',
      `${name}: lb_procs=${procs}, ${near} CPUs near ${nic.name}`,
      'some share a CPU or run far from the card',
      `lb_procs=${wish.length}`,
    );
  else found.ok('processes', `${name}: ${procs}`);
  const pins = options.pin_cpus === undefined ? undefined : parseCpuList(options.pin_cpus);
  if (pins === undefined)
    found.bad(
      'cpus',
      'warning',
      `${name}: pin_cpus is not set`,
      'processes move between CPUs and nodes, away from their tables and rings',
      `pin_cpus=${wish.join(',')}`,
    );
  else if (pins.length < procs)
    found.bad(
      'cpus',
      'warning',
      `${name}: ${pins.length} CPUs for ${procs} processes`,
      'some share a CPU',
      `pin_cpus=${wish.join(',')}`,
    );
  else judgePins(found, machine, nic, pins);
  const id = numberOf(options.af_packet_fanout_id) ?? FANOUT_ID;
  const same = workers.filter(
    (other) =>
      other.name !== name &&
      (numberOf(other.options.af_packet_fanout_id) ?? FANOUT_ID) === id &&
      other.options.host === options.host,
  );
  if (same.length > 0)
    found.bad(
      'fanout-id',
      'problem',
      `${name} and ${same.map((other) => other.name).join(', ')} have the fanout id ${id}`,
      'a fanout group is for one interface, and of one sensor: the second does not start, or they share packets',
      `an af_packet_fanout_id of its own for each`,
    );
  else found.ok('fanout-id', `${name}: ${id}`);
  const mode = options.af_packet_fanout_mode ?? 'AF_Packet::FANOUT_HASH';
  const byQueue = /FANOUT_(QM|CPU)$/.test(mode);
  const symmetric = RSS_CHECKS.find((check) => check.id === 'rss.symmetric')
    ?.run({ ...machine, nics: [nic] })
    .every(({ level }) => level === 'ok');
  if (byQueue && symmetric !== true)
    found.bad(
      'fanout-mode',
      'problem',
      `${name}: ${mode}, but the receive hash of ${nic.name} is not proven symmetric`,
      'a worker gets what its queue gets: with the directions of a connection in two queues none sees both',
      'the fix of rss.symmetric, or FANOUT_HASH',
    );
  else if (mode.endsWith('FANOUT_EBPF'))
    found.bad(
      'fanout-mode',
      'note',
      `${name}: ${mode}`,
      'Zeek loads no program for it: until one is given to the group, all packets go to one worker',
      'sluice fanout pin, and sluice fanout give after the start of Zeek',
    );
  else found.ok('fanout-mode', `${name}: ${mode}`);
  const buffer = numberOf(options.af_packet_buffer_size) ?? BUFFER;
  if (buffer < BUFFER)
    found.bad(
      'buffer',
      'note',
      `${name}: af_packet_buffer_size=${buffer}`,
      'a stall of the scripts is longer than that lasts',
      `af_packet_buffer_size=${BUFFER}`,
    );
  else found.ok('buffer', `${name}: ${buffer / 2 ** 20} MiB`);
}

function stanzaOf(nic: Nic, cpus: readonly number[]): string {
  return `# ${cpuText(cpus)}: near ${nic.name}, without its interrupts
[worker-${nic.name}]
type=worker
host=localhost
interface=af_packet::${nic.name}
lb_method=custom
lb_procs=${cpus.length}
pin_cpus=${cpus.join(',')}
af_packet_fanout_id=${FANOUT_ID}
af_packet_fanout_mode=AF_Packet::FANOUT_HASH
af_packet_buffer_size=${BUFFER}
`;
}
