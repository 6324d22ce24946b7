import type { Command } from 'commander';
import { outputSchema } from '../../base/config.ts';
import { SluiceError } from '../../base/errors.ts';
import type { CommandIo } from '../../base/io.ts';
import { grouped, scaled } from '../../base/units.ts';
import type { OwnerRow, StatusReport } from '../../gate/control-protocol.ts';
import type { LossTable } from '../../gate/losses/index.ts';
import { lossLines } from '../../gate/losses/text.ts';
import type { GateTunnels } from '../../gate/tunnels.ts';
import type { CommandHost } from '../command.ts';
import { addFlags, configOf } from '../flags.ts';
import { interfaceOption } from '../gate-choice.ts';
import { watchLines } from './gate-alone.ts';
import { fleetLines } from './gate-fleet.ts';
import { samplesLines } from './gate-mitigate.ts';

/** `sluice gate status`. */
export function registerGateStatus(gate: Command, host: CommandHost): void {
  const command = gate
    .command('status')
    .description('What the gate has seen, passed and dropped, and who uses it.')
    .addOption(interfaceOption())
    .action(async () => {
      const { config } = configOf(command, outputSchema);
      await host.run(config, async (io) => {
        const status = await readStatus(command.opts<{ interface?: string }>().interface);
        io.out(config.json ? `${JSON.stringify(status)}\n` : statusText(status, config.verbose, io));
        return undefined;
      });
    });
  addFlags(command, outputSchema);
  command.addHelpText(
    'after',
    `
Examples:
  sluice gate status --json      with the ledger of losses, as \`sluice top\` and the API have it
  sluice gate status --verbose   every counter from the card on (docs/losses.md)`,
  );
}

/** What the gate tells, with its ledger of losses; null without a daemon. */
interface Status extends StatusReport {
  losses: LossTable | null;
}

async function readStatus(ifname: string | undefined): Promise<Status> {
  const { findPlace } = await import('../../gate/control-places.ts');
  const { ControlClient } = await import('../../gate/control-client.ts');
  const place = findPlace(ifname);
  try {
    using client = await ControlClient.connect(place);
    const report = await client.ask<StatusReport>('status');
    return { ...report, losses: await client.ask<LossTable>('losses') };
  } catch (error) {
    if (!(error instanceof SluiceError) || (error.code !== 'GATE_DOWN' && error.code !== 'PRIVILEGE'))
      throw error;
    const { OfflineGate } = await import('../../gate/control-offline.ts');
    using offline = new OfflineGate(place);
    return { ...(await offline.status()), losses: null };
  }
}

const REASONS: Readonly<Record<string, string>> = {
  passNoEntry: 'no entry',
  passNotIp: 'not IP',
  passFragment: 'fragments',
  passParse: 'not parsed',
  passArmed: 'armed',
  passEnding: 'ending',
  passClose: 'FIN, RST, SYN',
  passLease: 'lease over',
  passIdle: 'idle limit',
  passOther: 'other protocols',
  passLimit: 'time limit',
  passException: 'exceptions',
  shuntedPair: 'by address pair',
  shuntedPeer: "by other sensors' tables",
  passTunnel: 'tunnels',
  passCarrier: 'other tunnels',
  passHost: "host's own",
};

const count = ({ pkts, bytes }: { pkts: number; bytes: number }): string =>
  `${grouped(pkts)} packets, ${scaled(bytes, 'B')}`;

/** Into which tunnels it looks, and on which ports. */
function tunnelsText({ kinds, ports, inKey }: GateTunnels): string {
  const each = kinds.map((kind) => {
    const of = kind === 'vxlan' || kind === 'geneve' ? ports[kind] : [];
    return of.length === 0 ? kind : `${kind} (${of.join(', ')})`;
  });
  return `tunnels ${each.join(', ')}${inKey ? ', ids in the key' : ''}`;
}

/** What its program does beside looking for connections. */
function optionsText({ vlanKey, features }: StatusReport): string {
  const on = [vlanKey ? 'VLANs in the key' : ''];
  if (features !== null) {
    const { pairs, prefixes, rules, fragments, trace, notes, tunnels, steer } = features;
    on.push(
      tunnels === undefined ? '' : tunnelsText(tunnels),
      fragments ? 'fragments follow their connection' : '',
      steer === undefined ? '' : `steering to ${steer.cpus.length} CPUs`,
      rules ? 'rules' : '',
      pairs ? 'address pairs' : '',
      prefixes > 0 ? `${prefixes} rows of prefixes` : '',
      trace ? 'a trace' : '',
      notes ? 'notes for a capture' : '',
    );
  }
  return on.filter((text) => text !== '').join(', ');
}

function steeringLines({ steered, steering }: StatusReport): [string, string][] {
  // Of a gate before, or of one whose daemon is dead.
  if (steering === null) return steered.pkts > 0 ? [['steered', count(steered)]] : [];
  const { cpus, lost, fragments } = steering;
  const each = cpus.map(
    ({ cpu, online, sent }) => `CPU ${cpu}${online ? '' : ' (off)'} ${grouped(sent.pkts)}`,
  );
  return [
    ['steered', `${count(steered)}${lost > 0 ? `; ${grouped(lost)} lost or on their way` : ''}`],
    ['', each.join(', ')],
    ...(fragments.unknown > 0
      ? [['', `fragments by addresses alone: ${grouped(fragments.unknown)}`] satisfies [string, string]]
      : []),
  ];
}

/** Other sensors that drive the gate: by Zeek's scripts, their own tables, EVE records. */
function sensorLines(s: StatusReport): [string, string][] {
  const lines: [string, string][] = [];
  if (s.zeek !== null) {
    const { url, connected, nodes, shunted, refused, ended } = s.zeek;
    const state = connected ? `${nodes.length} nodes` : 'not connected';
    lines.push([
      'Zeek',
      `${url}, ${state}; ${grouped(shunted)} shunted, ${grouped(ended)} ended, ${grouped(refused)} refused`,
    ]);
  }
  const { zeek, suricata } = s.peers ?? { zeek: null, suricata: null };
  if (zeek !== null)
    lines.push([
      'Zeek',
      `${grouped(zeek.flows)} connections and ${grouped(zeek.pairs)} pairs of ${grouped(zeek.max)}`,
    ]);
  if (suricata !== null)
    lines.push([
      'Suricata',
      `${grouped(suricata.flows4)} IPv4 and ${grouped(suricata.flows6)} IPv6 connections, room for ${grouped(suricata.max)} directions of each`,
    ]);
  if (s.eve !== null)
    lines.push([
      'EVE records',
      `${grouped(s.eve.records)}, ${grouped(s.eve.taken)} taken by a policy${s.eve.bad > 0 ? `, ${grouped(s.eve.bad)} unreadable` : ''}`,
    ]);
  return lines;
}

function ownerLine(o: OwnerRow): [string, string] {
  const age = o.age === null ? '' : `, renewed ${o.age.toFixed(1)} s ago`;
  const lease = o.lease === 'off' ? 'no lease' : `lease ${o.lease} s${o.lapsed ? ' (over)' : ''}${age}`;
  const idle = o.idle === 'off' ? 'no idle limit' : `idle limit ${o.idle} s`;
  return [`owner ${o.name}`, `${grouped(o.entries)} entries, ${lease}, ${idle}`];
}

function statusText(s: Status, verbose: boolean, io: CommandIo): string {
  const { daemon } = s;
  const on = s.interfaces.map(({ interface: name, mode }) => `${name} in ${mode} mode`).join(', ');
  const lines: [string, string][] = [
    [
      s.interfaces.length === 1 ? 'interface' : 'interfaces',
      `${on} (program ${s.programId ?? 'none'}, layout ${s.layout})`,
    ],
    [
      'daemon',
      daemon.alive
        ? `process ${daemon.pid}, up ${Math.round(daemon.uptime ?? 0)} s, ${daemon.socket}`
        : 'not running, or not for this user: entries lapse by lease, idle or time limit',
    ],
  ];
  for (const reason of new Set(s.interfaces.flatMap(({ modeReason }) => modeReason ?? [])))
    lines.push(['', reason]);
  const options = optionsText(s);
  if (options !== '') lines.push(['options', options]);
  lines.push(['seen', count(s.seen)], ['shunted', count(s.shunted)], ['passed', count(s.passed)]);
  if (s.watch !== null) lines.push(...watchLines(s.watch));
  if (s.samples !== null) lines.push(...samplesLines(s.samples));
  if (s.fleet !== null) lines.push(...fleetLines(s.fleet));
  lines.push(...steeringLines(s));
  for (const [reason, value] of Object.entries(s.reasons))
    if (value.pkts > 0) lines.push(['', `${REASONS[reason] ?? reason}: ${count(value)}`]);
  for (const [name, value] of [
    ['rules', s.ruleDropped],
    ['rate limits', s.rateLimited],
    ['aborted', s.aborted],
    ['sampled', s.sampled],
    ['samples lost', s.sampleLost],
  ] as const)
    if (value.pkts > 0) lines.push([name, count(value)]);
  if (s.losses !== null) lines.push(...lossLines(s.losses, { all: verbose }));
  const { rules, next, hook } = s.slots;
  if (rules !== null) lines.push(['rules slot', `${rules.name} (program ${rules.id})`]);
  if (next !== null) {
    const reached = next.reached ? '' : ", not while a capture is in the hook's pass slot";
    lines.push(['next', `${next.name} (program ${next.id})${reached}`]);
  }
  if (hook.length > 0) lines.push(['captures on', hook.join(', ')]);
  for (const [name, { entries, max }] of Object.entries(s.tables))
    lines.push([name === 'flows4' ? 'IPv4 shunts' : 'IPv6 shunts', `${grouped(entries)} of ${grouped(max)}`]);
  lines.push(...sensorLines(s), ...s.owners.map(ownerLine));
  const width = Math.max(...lines.map(([name]) => name.length));
  return `${lines.map(([name, value]) => `${io.paint('bold', name.padEnd(width))}  ${value}`).join('\n')}\n`;
}
