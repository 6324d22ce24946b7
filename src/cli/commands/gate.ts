import { resolve } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { accountNumber } from '../../base/accounts.ts';
import { outputSchema, runSchema, xdpMode } from '../../base/config.ts';
import { SluiceError } from '../../base/errors.ts';
import type { CommandIo } from '../../base/io.ts';
import { scaled } from '../../base/units.ts';
import type { ControlClient as Connected } from '../../gate/control-client.ts';
import type { StatusReport } from '../../gate/control-protocol.ts';
import type { DaemonOptions, UpReport } from '../../gate/daemon.ts';
import type { GateTunnels } from '../../gate/tunnels.ts';
import type { Register } from '../command.ts';
import { addFlags, configOf } from '../flags.ts';
import { type AloneOptions, addAloneOptions, watchLines, watchSettings } from './gate-alone.ts';
import { addMitigateOptions, type MitigateOptions, mitigateOptions } from './gate-mitigate.ts';
import { addSensorOptions, eveOptions, type SensorOptions } from './gate-sensors.ts';
import { registerGateSlots } from './gate-slots.ts';

/** What `gate up` has in common with `run`. Other sensors have sockets of their own. */
const gateSchema = runSchema
  .pick({
    tap: true,
    fragments: true,
    steer: true,
    steerQueue: true,
    maxShunts4: true,
    maxShunts6: true,
    vlanKey: true,
    tunnels: true,
    tunnelPorts: true,
    tunnelKey: true,
    logDir: true,
    json: true,
    quiet: true,
    verbose: true,
    color: true,
  })
  .extend({ mode: xdpMode });

interface UpOptions extends SensorOptions, AloneOptions, MitigateOptions {
  interface: string[];
  shareTables?: boolean;
  pinOwner?: string;
  pinGroup?: string;
  pinMode?: number;
  socketMode?: number;
  hold?: boolean;
  next?: string;
  zeek?: string;
  site?: string;
  role?: string[];
}

interface ResizeOptions {
  interface?: string;
  maxShunts4?: number;
  maxShunts6?: number;
}

/** `sluice gate up|down|status|resize|next|trace`. */
export const registerGate: Register = (program, host) => {
  const gate = program
    .command('gate')
    .description('The XDP gate alone, in front of other sensors: shunts come over its control socket.');

  const up = gate
    .command('up')
    .description('Attach the gate and start its daemon.')
    .addOption(
      new Option('-i, --interface <IFACE>', 'The interface; several with --share-tables.')
        .argParser((value: string, before: string[] | undefined) => [...(before ?? []), ...value.split(',')])
        .makeOptionMandatory()
        .helpGroup('Source:'),
    )
    .addOption(
      new Option(
        '--share-tables',
        'One gate on all of these interfaces, with one set of tables: the directions of a flow may come by two of them.',
      ).helpGroup('Gate:'),
    )
    .addOption(
      new Option(
        '--pin-owner <USER>',
        'Who owns the pinned tables and the socket (default: root).',
      ).helpGroup('Gate:'),
    )
    .addOption(
      new Option(
        '--pin-group <GROUP>',
        'This group reads the pinned tables and uses the socket (default: root).',
      ).helpGroup('Gate:'),
    )
    .addOption(
      new Option(
        '--pin-mode <MODE>',
        'Mode of the pins; who may write changes entries past the daemon (default: 0600, with a group 0640).',
      )
        .argParser(fileMode)
        .helpGroup('Gate:'),
    )
    .addOption(
      new Option('--socket-mode <MODE>', 'Mode of the socket (default: 0600, with a group 0660).')
        .argParser(fileMode)
        .helpGroup('Gate:'),
    )
    .addOption(
      new Option(
        '--next <PIN>',
        'Run the XDP program that is pinned there behind the gate, on what it passes.',
      ).helpGroup('Gate:'),
    )
    .addOption(
      new Option(
        '--zeek <URL>',
        "Let Zeek's scripts drive the gate over its WebSocket, for instance ws://127.0.0.1:27759 (docs/zeek-package.md).",
      ).helpGroup('Gate:'),
    )
    .addOption(
      new Option('--site <NAME>', 'Where this gate is: rules may hold for some sites only.')
        .argParser(scopeName)
        .helpGroup('Gate:'),
    )
    .addOption(
      new Option('--role <NAME>', 'What it is for, as --site; may be given several times.')
        .argParser((text: string, before: string[] | undefined) => [...(before ?? []), scopeName(text)])
        .helpGroup('Gate:'),
    )
    .addOption(
      new Option('--hold', 'Stay in the foreground; the gate goes down with this command.').helpGroup(
        'Gate:',
      ),
    )
    .action(async () => {
      const { config } = configOf(up, gateSchema);
      const given = up.opts<UpOptions>();
      await host.run(config, async (io) => {
        const { checkInterface, checkPrivilege } = await import('../../gate/guard.ts');
        const { checkKernel } = await import('../../gate/kernel-check.ts');
        const { gateTunnels } = await import('../../gate/tunnels.ts');
        const { gatePeers } = await import('../../gate/peers.ts');
        const { gateSteering } = await import('../../gate/steer.ts');
        const { zeekUrl } = await import('../../gate/zeek-bridge.ts');
        const names = checkNames(given);
        const [first, ...others] = names.map((name) => {
          const { index, name: ifname } = checkInterface(name, config.tap);
          return { ifindex: index, ifname };
        });
        checkPrivilege('xdp');
        checkKernel('xdp');
        const peers = gatePeers(given.abi ?? [], {
          zeekPins: given.zeekPins,
          entries: given.abiEntries,
        });
        const eve = eveOptions(given);
        const mitigation = await mitigateOptions(given, process.env);
        const grouped = given.pinGroup !== undefined;
        const options: DaemonOptions = {
          ...first,
          others,
          mode: config.mode,
          maxShunts4: config.maxShunts4,
          maxShunts6: config.maxShunts6,
          vlanKey: config.vlanKey,
          tunnels: gateTunnels(config),
          fragments: config.fragments === 'follow',
          ...(peers === undefined ? {} : { peers }),
          ...(eve === undefined ? {} : { eve }),
          ...(mitigation === undefined ? {} : { mitigation }),
          steer: gateSteering(config, first.ifname),
          watch: given.alone === undefined ? undefined : { ...given.alone, ...watchSettings(given) },
          ...(given.next === undefined ? {} : { next: resolve(given.next) }),
          ...(given.zeek === undefined ? {} : { zeek: zeekUrl(given.zeek) }),
          ...(given.site === undefined ? {} : { site: given.site }),
          ...(given.role === undefined ? {} : { roles: given.role }),
          logDir: resolve(config.logDir),
          pins: {
            uid: given.pinOwner === undefined ? 0 : accountNumber('user', given.pinOwner),
            gid: given.pinGroup === undefined ? 0 : accountNumber('group', given.pinGroup),
            mode: given.pinMode ?? (grouped ? 0o640 : 0o600),
          },
          socketMode: given.socketMode ?? (grouped ? 0o660 : 0o600),
        };
        const { interfacesText } = await import('../../gate/control-places.ts');
        const show = (report: UpReport): void => {
          if (config.json) io.out(`${JSON.stringify(report)}\n`);
          else
            io.say(
              `the gate is up on ${interfacesText(report.interfaces.map(({ interface: name, mode }) => `${name} (${mode} mode)`))}, program ${report.programId}`,
            );
        };
        if (given.hold === true) return await hold(options, io, show);
        const { startDaemon } = await import('../../gate/daemon-start.ts');
        const { report, warnings } = await startDaemon(options);
        for (const warning of warnings) io.warn(warning);
        show(report);
        return undefined;
      });
    });
  addSensorOptions(up);
  addMitigateOptions(up);
  addAloneOptions(up);
  addFlags(up, gateSchema);
  up.addHelpText(
    'after',
    `
Examples:
  sluice gate up -i eth1 --tap
  sluice gate up -i eth1 --tap --pin-group zeek        members of zeek read the tables and add shunts
  sluice gate up -i eth1 --tap --mode native --hold    in the foreground, until Ctrl-C
  sluice gate up -i eth1 --tap --tunnels vxlan,gre     connections in tunnels are found too
  sluice gate up -i eth1 --tap --alone                 shunts TLS and bulk by itself, in front of any tool (docs/alone.md)
  sluice gate up -i eth1 --tap --steer 2-5             each connection goes on at one of four CPUs
  sluice gate up -i eth1 --tap --abi suricata          Suricata's XDP bypass, unmodified (docs/suricata.md)
  sluice gate up -i eth1 --tap --mitigate --veto 192.0.2.0/28
  sluice gate up -i eth1 --tap --eve unix_stream:/run/eve.sock --eve-policy tls
  sluice gate up -i eth1 --tap --abi zeek              Zeek with xdp-zeek, unmodified (docs/zeek.md)
  sluice gate up -i eth1 -i eth2 --tap --share-tables  a tap whose two directions come in on two interfaces`,
  );

  const down = gate
    .command('down')
    .description('Take the gate down and end its daemon.')
    .addOption(interfaceOption())
    .action(async () => {
      const { config } = configOf(down, outputSchema);
      await host.run(config, async (io) => {
        const names = await takeDown(down.opts<{ interface?: string }>().interface, (text) => io.warn(text));
        const { interfacesText } = await import('../../gate/control-places.ts');
        if (config.json)
          io.out(`${JSON.stringify({ interface: names[0], interfaces: names, down: true })}\n`);
        else io.say(`the gate on ${interfacesText(names)} is down`);
        return undefined;
      });
    });
  addFlags(down, outputSchema);
  down.addHelpText('after', '\nExample:\n  sluice gate down -i eth1');

  const resize = gate
    .command('resize')
    .description('Give the tables another size, with all that is in them.')
    .addOption(interfaceOption())
    .addOption(new Option('--max-shunts4 <N>', 'Room for shunted IPv4 connections.').argParser(tableSize))
    .addOption(new Option('--max-shunts6 <N>', 'Room for shunted IPv6 connections.').argParser(tableSize))
    .action(async () => {
      const { config } = configOf(resize, outputSchema);
      const { interface: ifname, maxShunts4, maxShunts6 } = resize.opts<ResizeOptions>();
      await host.run(config, async (io) => {
        if (maxShunts4 === undefined && maxShunts6 === undefined)
          throw new SluiceError('USAGE', 'no size given', {
            help: 'sluice gate resize --max-shunts4 1000000',
          });
        const { findPlace } = await import('../../gate/control-places.ts');
        const { ControlClient } = await import('../../gate/control-client.ts');
        using client = await ControlClient.connect(findPlace(ifname));
        const wish = {
          ...(maxShunts4 === undefined ? {} : { maxShunts4 }),
          ...(maxShunts6 === undefined ? {} : { maxShunts6 }),
        };
        const { tables } = await client.ask<Pick<StatusReport, 'tables'>>('resize', wish);
        if (config.json) io.out(`${JSON.stringify({ tables })}\n`);
        else io.say(`room for ${n(tables.flows4.max)} IPv4 and ${n(tables.flows6.max)} IPv6 shunts`);
        return undefined;
      });
    });
  addFlags(resize, outputSchema);
  resize.addHelpText('after', '\nExample:\n  sluice gate resize --max-shunts4 1000000');

  const status = gate
    .command('status')
    .description('What the gate has seen, passed and dropped, and who uses it.')
    .addOption(interfaceOption())
    .action(async () => {
      const { config } = configOf(status, outputSchema);
      await host.run(config, async (io) => {
        const report = await readStatus(status.opts<{ interface?: string }>().interface);
        io.out(config.json ? `${JSON.stringify(report)}\n` : statusText(report, io));
        return undefined;
      });
    });
  addFlags(status, outputSchema);
  status.addHelpText('after', '\nExample:\n  sluice gate status --json');
  registerGateSlots(gate, host);
};

function scopeName(text: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$/.test(text)) return text;
  throw new InvalidArgumentError('not 1 to 64 letters, digits, dots, dashes, underscores or colons');
}

/** @throws SluiceError USAGE */
function checkNames({ interface: names, shareTables = false }: UpOptions): readonly string[] {
  const unique = [...new Set(names)];
  if (names.includes('') || unique.length < names.length) {
    throw new SluiceError('USAGE', `'${names.join()}' does not name interfaces, each once`, {
      help: 'sluice gate up -i eth1 -i eth2 --share-tables',
    });
  }
  if (unique.length > 1 && !shareTables) {
    throw new SluiceError('USAGE', `${unique.length} interfaces are named, and one gate serves one of them`, {
      help: '--share-tables puts one gate with one set of tables on all of them; without it start a gate for each',
    });
  }
  return names;
}

/** `-i` of commands that need it only when several gates are up. */
export function interfaceOption(): Option {
  return new Option('-i, --interface <IFACE>', 'The gate of this interface, where several are up.');
}

async function hold(
  options: DaemonOptions,
  io: CommandIo,
  show: (report: UpReport) => void,
): Promise<SluiceError | undefined> {
  const { GateDaemon } = await import('../../gate/daemon.ts');
  const daemon = await GateDaemon.start(options, (line) => io.warn(line));
  show(daemon.report);
  io.say('ready');
  const stopped = new Promise<undefined>((done) => {
    io.stop.addEventListener('abort', () => done(undefined), { once: true });
    if (io.stop.aborted) done(undefined);
  });
  const problem = await Promise.race([daemon.ended, stopped]);
  await daemon.close();
  if (problem !== undefined) throw problem;
  return undefined;
}

/** Answers the interfaces that it was on. */
async function takeDown(ifname: string | undefined, warn: (text: string) => void): Promise<string[]> {
  const { findPlace } = await import('../../gate/control-places.ts');
  const { ControlClient } = await import('../../gate/control-client.ts');
  const place = findPlace(ifname);
  const names = place.interfaces.length === 0 ? [place.ifname] : place.interfaces.map((each) => each.ifname);
  let client: Connected;
  try {
    client = await ControlClient.connect(place);
  } catch (error) {
    if (!(error instanceof SluiceError) || error.code !== 'GATE_DOWN') throw error;
    // Its daemon is dead: what it left is still ours. A daemon that hangs holds its lock, which is told.
    const { Gate } = await import('../../gate/gate.ts');
    const { removeState } = await import('../../gate/daemon-state.ts');
    const { removeLeftNicRules } = await import('../../gate/daemon-rules.ts');
    const { removePeerPins } = await import('../../gate/peer-pins.ts');
    const { readState } = await import('../../gate/daemon-state.ts');
    removeLeftNicRules(place, warn);
    Gate.remove(place);
    removePeerPins(readState(place)?.peers ?? [], place.name);
    removeState(place);
    return names;
  }
  try {
    await client.ask('stop');
    await client.closed;
    await lockReleased(place.ifindex, place.ifname);
    return names;
  } finally {
    client.close();
  }
}

const DOWN_MS = 10_000;

/** The socket is closed before the gate is off and its pins are gone: those the lock stands for. */
async function lockReleased(ifindex: number, ifname: string): Promise<void> {
  const { PinDirectory } = await import('../../gate/pins.ts');
  const end = performance.now() + DOWN_MS;
  for (;;) {
    try {
      PinDirectory.claim(ifindex, ifname).release();
      return;
    } catch (error) {
      const busy = error instanceof SluiceError && error.code === 'INTERFACE_BUSY';
      if (!busy || performance.now() > end) throw error;
    }
    await new Promise((done) => setTimeout(done, 20));
  }
}

async function readStatus(ifname: string | undefined): Promise<StatusReport> {
  const { findPlace } = await import('../../gate/control-places.ts');
  const { ControlClient } = await import('../../gate/control-client.ts');
  const place = findPlace(ifname);
  try {
    using client = await ControlClient.connect(place);
    return await client.ask<StatusReport>('status');
  } catch (error) {
    if (!(error instanceof SluiceError) || (error.code !== 'GATE_DOWN' && error.code !== 'PRIVILEGE'))
      throw error;
    const { OfflineGate } = await import('../../gate/control-offline.ts');
    using offline = new OfflineGate(place);
    return await offline.status();
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

const n = (value: number): string => value.toLocaleString('en-US');

const count = ({ pkts, bytes }: { pkts: number; bytes: number }): string =>
  `${n(pkts)} packets, ${scaled(bytes, 'B')}`;

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
  const each = cpus.map(({ cpu, online, sent }) => `CPU ${cpu}${online ? '' : ' (off)'} ${n(sent.pkts)}`);
  return [
    ['steered', `${count(steered)}${lost > 0 ? `; ${n(lost)} lost or on their way` : ''}`],
    ['', each.join(', ')],
    ...(fragments.unknown > 0
      ? [['', `fragments by addresses alone: ${n(fragments.unknown)}`] satisfies [string, string]]
      : []),
  ];
}

function statusText(s: StatusReport, io: CommandIo): string {
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
  if (s.zeek !== null) {
    const { url, connected, nodes, shunted, refused, ended } = s.zeek;
    const state = connected ? `${nodes.length} nodes` : 'not connected';
    lines.push(['Zeek', `${url}, ${state}; ${n(shunted)} shunted, ${n(ended)} ended, ${n(refused)} refused`]);
  }
  if (s.watch !== null) lines.push(...watchLines(s.watch));
  lines.push(...steeringLines(s));
  for (const [reason, value] of Object.entries(s.reasons))
    if (value.pkts > 0) lines.push(['', `${REASONS[reason] ?? reason}: ${count(value)}`]);
  for (const [name, value] of [
    ['rules', s.ruleDropped],
    ['rate limits', s.rateLimited],
    ['aborted', s.aborted],
  ] as const)
    if (value.pkts > 0) lines.push([name, count(value)]);
  const { rules, next, hook } = s.slots;
  if (rules !== null) lines.push(['rules slot', `${rules.name} (program ${rules.id})`]);
  if (next !== null) {
    const reached = next.reached ? '' : ", not while a capture is in the hook's pass slot";
    lines.push(['next', `${next.name} (program ${next.id})${reached}`]);
  }
  if (hook.length > 0) lines.push(['captures on', hook.join(', ')]);
  for (const [name, { entries, max }] of Object.entries(s.tables))
    lines.push([name === 'flows4' ? 'IPv4 shunts' : 'IPv6 shunts', `${n(entries)} of ${n(max)}`]);
  const { zeek, suricata } = s.peers ?? { zeek: null, suricata: null };
  if (zeek !== null)
    lines.push(['Zeek', `${n(zeek.flows)} connections and ${n(zeek.pairs)} pairs of ${n(zeek.max)}`]);
  if (suricata !== null) {
    const { flows4, flows6, max } = suricata;
    lines.push([
      'Suricata',
      `${n(flows4)} IPv4 and ${n(flows6)} IPv6 connections, room for ${n(max)} directions of each`,
    ]);
  }
  if (s.eve !== null) {
    const { records, taken, bad } = s.eve;
    const unreadable = bad > 0 ? `, ${n(bad)} unreadable` : '';
    lines.push(['EVE records', `${n(records)}, ${n(taken)} taken by a policy${unreadable}`]);
  }
  for (const o of s.owners) {
    const age = o.age === null ? '' : `, renewed ${o.age.toFixed(1)} s ago`;
    const lease = o.lease === 'off' ? 'no lease' : `lease ${o.lease} s${o.lapsed ? ' (over)' : ''}${age}`;
    const idle = o.idle === 'off' ? 'no idle limit' : `idle limit ${o.idle} s`;
    lines.push([`owner ${o.name}`, `${n(o.entries)} entries, ${lease}, ${idle}`]);
  }
  const width = Math.max(...lines.map(([name]) => name.length));
  return `${lines.map(([name, value]) => `${io.paint('bold', name.padEnd(width))}  ${value}`).join('\n')}\n`;
}

function tableSize(text: string): number {
  if (!/^\d{1,8}$/.test(text) || Number(text) < 1 || Number(text) > 2 ** 24)
    throw new InvalidArgumentError('not a number from 1 to 16777216');
  return Number(text);
}

function fileMode(text: string): number {
  if (!/^0?[0-7]{3}$/.test(text)) throw new InvalidArgumentError('not a mode such as 0640');
  return Number.parseInt(text, 8);
}

/** Gives a command `-i` and the flags of output. */
export function withGate(command: Command): void {
  command.addOption(interfaceOption());
  addFlags(command, outputSchema);
}
