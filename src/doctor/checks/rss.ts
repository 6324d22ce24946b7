import type { HashFlowName } from '../../kernel/index.ts';
import { bad, byHand, type Change, type Check, type Fix, nicCheck, ok } from '../finding.ts';
import type { Nic } from '../machine.ts';
import { keyBytes, symmetricKey, symmetry, tupleText } from '../toeplitz.ts';
import { nearCpus, rxQueueCount } from '../view.ts';

const FLOWS: readonly HashFlowName[] = ['tcp4', 'udp4', 'tcp6', 'udp6'];
const family = (flow: HashFlowName): 4 | 6 => (flow.endsWith('4') ? 4 : 6);
/** Fields of which both directions have the same, exchanged. */
const isBalanced = (fields: string): boolean =>
  fields.includes('s') === fields.includes('d') && fields.includes('f') === fields.includes('n');

const MOMENT = 'packets on their way may be handled out of order for a moment';

function keyFix(nic: Nic, skewed: readonly HashFlowName[]): Fix {
  const length = keyBytes(nic.rss?.key ?? '').length;
  const changes: Change[] = [
    {
      setting: { kind: 'rss-key', ifname: nic.name },
      value: Buffer.from(symmetricKey(length)).toString('hex'),
    },
    ...skewed.map((flow) => ({
      setting: { kind: 'hash-fields', ifname: nic.name, name: flow } as const,
      value: flow.startsWith('tcp') ? 'sdfn' : 'sd',
    })),
  ];
  return {
    text: 'a key of the repeated word 6d:5a hashes both directions alike',
    risk: 'none',
    riskText: `${MOMENT}; a key that everybody knows lets a sender choose the queue`,
    changes,
  };
}

const symmetric = nicCheck('rss.symmetric', 'both directions in one queue', (nic) => {
  if (nic.rss === undefined || rxQueueCount(nic) < 2) return undefined;
  const proofs = FLOWS.flatMap((flow) => {
    const fields = nic.hashFields[flow];
    if (fields === undefined || nic.rss === undefined) return [];
    const proof = symmetry(nic.rss, fields, family(flow));
    return proof === undefined ? [] : [{ flow, fields, proof }];
  });
  if (proofs.length === 0)
    return bad(
      'note',
      `the card does not tell key and fields of its hash (${nic.rss.function})`,
      'it cannot be proven that both directions of a connection come into one queue. Sluice and fanout by hash or eBPF do not rely on that; fanout by queue or CPU does',
      byHand('one queue, or fanout by hash or eBPF', 'none', 'none'),
    );
  const split = proofs.filter(({ proof }) => proof.split > 0);
  const tuples = proofs.reduce((sum, { proof }) => sum + proof.tuples, 0);
  if (split.length === 0)
    return ok(
      `${proofs.map(({ flow, fields }) => `${flow} ${fields || 'nothing'}`).join(', ')}: ${tuples} connections computed, none split`,
    );
  const worst = split.reduce((a, b) => (b.proof.split > a.proof.split ? b : a));
  const { example } = worst.proof;
  return bad(
    'warning',
    `${split.map(({ flow, proof }) => `${flow}: ${proof.split} of ${proof.tuples} connections in two queues`).join(', ')}${
      example === undefined
        ? ''
        : `; ${tupleText(example.tuple)} comes into queue ${example.there}, its answers into ${example.back}`
    }`,
    'the directions of a connection are handled by different CPUs: a sensor sees answers before questions, and with fanout by queue or CPU (Suricata cluster_qm, cluster_cpu) no worker sees both',
    keyFix(
      nic,
      split.filter(({ fields }) => !isBalanced(fields)).map(({ flow }) => flow),
    ),
  );
});

const fields = nicCheck('rss.fields', 'fragments come into the queue of their datagram', (nic) => {
  if (rxQueueCount(nic) < 2) return undefined;
  const told = (['udp4', 'udp6'] as const).filter((flow) => nic.hashFields[flow] !== undefined);
  if (told.length === 0) return undefined;
  const withPorts = told.filter((flow) => /[fn]/.test(nic.hashFields[flow] ?? ''));
  if (withPorts.length === 0)
    return ok(told.map((flow) => `${flow} ${nic.hashFields[flow] || 'nothing'}`).join(', '));
  return bad(
    'note',
    withPorts.map((flow) => `${flow} ${nic.hashFields[flow]}`).join(', '),
    'only the first fragment of a datagram has ports: with ports in the hash the others come into another queue, and are handled before or after it',
    {
      text: 'hash UDP by addresses alone',
      risk: 'none',
      riskText: `${MOMENT}; traffic between two addresses, such as one tunnel, comes into one queue`,
      changes: withPorts.map((flow) => ({
        setting: { kind: 'hash-fields', ifname: nic.name, name: flow },
        value: 'sd',
      })),
    },
  );
});

const table = nicCheck('rss.table', 'all queues get packets', (nic) => {
  const queues = rxQueueCount(nic);
  if (nic.rss === undefined || nic.rss.table.length === 0 || queues < 2) return undefined;
  const places = Array.from({ length: queues }, () => 0);
  for (const queue of nic.rss.table) places[queue] = (places[queue] ?? 0) + 1;
  const least = Math.min(...places.slice(0, queues));
  const most = Math.max(...places.slice(0, queues));
  if (most - least <= 1) return ok(`${queues} queues, ${nic.rss.table.length} places in equal parts`);
  return bad(
    'note',
    `of ${nic.rss.table.length} places the ${queues} queues have from ${least} to ${most}`,
    'some CPUs get more packets than others by the table alone',
    {
      text: 'equal parts',
      risk: 'none',
      riskText: MOMENT,
      changes: [
        {
          setting: { kind: 'rss-table', ifname: nic.name },
          value: nic.rss.table.map((_, i) => i % queues).join(','),
        },
      ],
    },
  );
});

const queues = nicCheck('rss.queues', 'a queue for each near core at most', (nic, machine) => {
  if (nic.pci === undefined || nic.channels === undefined) return undefined;
  const count = rxQueueCount(nic);
  const near = nearCpus(machine, nic).length;
  if (count <= near) return ok(`${count} queues, ${near} CPUs near the card`);
  return bad(
    'warning',
    `${count} queues, but ${near} CPUs near the card`,
    'the queues that are left over go to far CPUs, or several share one and its cache',
    {
      text: `${near} queues`,
      risk: 'blip',
      riskText: 'the link goes down for a moment; interrupts and the receive hash are set anew',
      changes: [
        {
          setting: {
            kind: 'channels',
            ifname: nic.name,
            name: nic.channels.combined > 0 ? 'combined' : 'rx',
          },
          value: String(near),
        },
      ],
    },
  );
});

export const RSS_CHECKS: readonly Check[] = [symmetric, fields, table, queues];
