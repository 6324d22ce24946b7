import { bad, byHand, type Check, machineCheck, nicCheck, ok } from '../finding.ts';
import { cpusOfNode, cpuText, nearCpus, nodesOf, packagesOf, pinnedWorkers } from '../view.ts';

const workers = nicCheck('numa.workers', 'workers run at the node of the card', (nic, machine) => {
  if (nic.pci?.node === undefined || nodesOf(machine).length < 2) return undefined;
  const own = machine.sensors.filter(({ interfaces }) => interfaces.includes(nic.index));
  if (own.length === 0) return undefined;
  const near = new Set(nearCpus(machine, nic).map(({ id }) => id));
  const pinned = pinnedWorkers(machine, nic);
  const text = own.map(({ name, pid }) => `${name} (${pid})`).join(', ');
  const free = own.filter(({ threads }) => threads.some(({ cpus }) => cpus.some((cpu) => !near.has(cpu))));
  const far = pinned.filter(({ cpu }) => !near.has(cpu));
  if (far.length > 0)
    return bad(
      'warning',
      `${far.map(({ process, cpu }) => `${process} on CPU ${cpu}`).join(', ')}; ${nic.name} is at node ${nic.pci.node}`,
      'ring and packets lie in the memory of the other processor: each access crosses over',
      byHand(
        `pin them to ${cpuText([...near])}: \`sluice run --pin-workers auto\`, pin_cpus of Zeek, worker-cpu-set of Suricata`,
        'host',
        'the sensor is started anew',
      ),
    );
  if (pinned.length === 0 && free.length > 0)
    return bad(
      'note',
      `${text}: not pinned, and the machine has ${nodesOf(machine).length} nodes`,
      'the kernel may put workers and the memory of their rings to the far node',
      byHand(
        '`sluice run --pin-workers auto`, pin_cpus of Zeek, worker-cpu-set of Suricata',
        'host',
        'the sensor is started anew',
      ),
    );
  return ok(`${text} on node ${nic.pci.node}`);
});

const local = nicCheck('numa.memory', 'the node of the card has memory', (nic, machine) => {
  const node = nic.pci?.node;
  if (node === undefined || nodesOf(machine).length < 2) return undefined;
  const memory = machine.memory.nodes.find((each) => each.node === node);
  if (memory === undefined) return undefined;
  if (memory.totalKb > 0 && cpusOfNode(machine, node).length > 0)
    return ok(
      `node ${node}: ${Math.round(memory.totalKb / 2 ** 20)} GiB, CPU ${cpuText(cpusOfNode(machine, node).map(({ id }) => id))}`,
    );
  return bad(
    'problem',
    `node ${node} has ${memory.totalKb === 0 ? 'no memory' : 'no processor'}`,
    'the card writes every packet to the memory of another processor',
    byHand('another slot, or memory modules beside this processor', 'host', 'the machine is opened'),
  );
});

const subNuma = machineCheck(
  'numa.clusters',
  'processors are not divided (sub-NUMA clustering)',
  (machine) => {
    const nodes = nodesOf(machine).length;
    const packages = packagesOf(machine).length;
    if (machine.kernel.virtual || packages === 0) return undefined;
    if (nodes <= packages) return ok(`${nodes} nodes, ${packages} processors`);
    return bad(
      'note',
      `${nodes} nodes on ${packages} processors`,
      'sub-NUMA clustering (NPS of AMD) leaves the card a part of the cores, cache and memory channels of its processor: right for one card and few workers, wrong when the workers need more cores than the part has',
      byHand('in the firmware of the machine: SNC off, NPS1', 'reboot', 'other work may want the division'),
    );
  },
);

const balancing = machineCheck('numa.balancing', 'the kernel does not move memory', (machine) => {
  const value = machine.sysctls['kernel.numa_balancing'];
  if (value === undefined || nodesOf(machine).length < 2) return undefined;
  if (value === '0') return ok('off');
  return bad(
    'warning',
    `kernel.numa_balancing = ${value}`,
    'to find out who uses what, the kernel takes pages away for a moment: workers stall on their tables and rings',
    {
      text: 'off, with workers pinned to the node of the card',
      risk: 'host',
      riskText: 'work that is not pinned may stay far from its memory',
      changes: [{ setting: { kind: 'file', path: '/proc/sys/kernel/numa_balancing' }, value: '0' }],
    },
  );
});

export const NUMA_CHECKS: readonly Check[] = [workers, local, subNuma, balancing];
