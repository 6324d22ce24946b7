import { resolve } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { accountNumber } from '../../base/accounts.ts';
import { runSchema, xdpMode } from '../../base/config.ts';
import { SluiceError } from '../../base/errors.ts';
import type { CommandIo } from '../../base/io.ts';
import type { GateLibxdp } from '../../gate/components.ts';
import type { DaemonOptions, UpReport } from '../../gate/daemon-options.ts';
import { wholeNumber } from '../arguments.ts';
import type { CommandHost } from '../command.ts';
import { addFlags, configOf } from '../flags.ts';
import { type AloneOptions, addAloneOptions, watchSettings } from './gate-alone.ts';
import {
  addMitigateOptions,
  type MitigateOptions,
  mitigateOptions,
  samplesOptions,
} from './gate-mitigate.ts';
import { addSensorOptions, eveOptions, type SensorOptions } from './gate-sensors.ts';

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
    samplesTo: true,
    rulesFrom: true,
    trust: true,
    trustPrograms: true,
    rulesStore: true,
    rulesEvery: true,
    site: true,
    role: true,
    natsCa: true,
    natsCert: true,
    natsKey: true,
    natsCreds: true,
    natsLogin: true,
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
  libxdp?: number;
  zeek?: string;
}

/** `sluice gate up`. */
export function registerGateUp(gate: Command, host: CommandHost): void {
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
        'Who owns the pinned tables and the socket (default: whoever starts it).',
      ).helpGroup('Gate:'),
    )
    .addOption(
      new Option(
        '--pin-group <GROUP>',
        'This group reads the pinned tables and uses the socket (default: that of whoever starts it).',
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
        '--libxdp [PRIORITY]',
        "Run as a component of libxdp's dispatcher, beside others' programs, those of the lowest priority first; where the kernel has them (docs/gate.md).",
      )
        .argParser(wholeNumber(0, 65_535))
        .preset('20')
        .helpGroup('Gate:'),
    )
    .addOption(
      new Option(
        '--zeek <URL>',
        "Let Zeek's scripts drive the gate over its WebSocket, for instance ws://127.0.0.1:27759 (docs/zeek-package.md).",
      ).helpGroup('Gate:'),
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
        const libxdp = await libxdpOption(given.libxdp, config);
        const peers = gatePeers(given.abi ?? [], {
          zeekPins: given.zeekPins,
          entries: given.abiEntries,
        });
        const eve = eveOptions(given);
        const mitigation = await mitigateOptions(given, process.env);
        const samples = await samplesOptions(config, given);
        const { fleetOptions } = await import('../../gate/fleet-options.ts');
        const fleet = fleetOptions(config, first.ifname);
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
          ...(samples === undefined ? {} : { samples }),
          ...(fleet === undefined ? {} : { fleet }),
          steer: gateSteering(config, first.ifname),
          ...(libxdp === undefined ? {} : { libxdp }),
          watch: given.alone === undefined ? undefined : { ...given.alone, ...watchSettings(given) },
          ...(given.next === undefined ? {} : { next: resolve(given.next) }),
          ...(given.zeek === undefined ? {} : { zeek: zeekUrl(given.zeek) }),
          ...(config.site === undefined ? {} : { site: config.site }),
          roles: config.role,
          logDir: resolve(config.logDir),
          pins: {
            uid:
              given.pinOwner === undefined
                ? (process.getuid?.() ?? 0)
                : accountNumber('user', given.pinOwner),
            gid:
              given.pinGroup === undefined
                ? (process.getgid?.() ?? 0)
                : accountNumber('group', given.pinGroup),
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
  sluice gate up -i eth1 --tap --libxdp                beside xdp-loader's programs, where the kernel has dispatchers
  sluice gate up -i eth1 --tap --abi suricata          Suricata's XDP bypass, unmodified (docs/suricata.md)
  sluice gate up -i eth1 --tap --mitigate --veto 192.0.2.0/28
  sluice gate up -i eth1 --tap --samples-to nats+tls://nats.example --nats-creds edge.creds
  sluice gate up -i eth1 --tap --rules-from nats+tls://nats.example --nats-creds edge.creds --trust desk.pub --site fra1
  sluice gate up -i eth1 --tap --eve unix_stream:/run/eve.sock --eve-policy tls
  sluice gate up -i eth1 --tap --abi zeek              Zeek with xdp-zeek, unmodified (docs/zeek.md)
  sluice gate up -i eth1 -i eth2 --tap --share-tables  a tap whose two directions come in on two interfaces`,
  );
}

/** @throws SluiceError USAGE, KERNEL_FEATURE, PRIVILEGE */
async function libxdpOption(
  priority: number | undefined,
  { mode, steer }: { mode: string; steer: string },
): Promise<GateLibxdp | undefined> {
  if (priority === undefined) return undefined;
  if (mode === 'offload' || steer !== 'off')
    throw new SluiceError(
      'USAGE',
      `--libxdp does not go with ${mode === 'offload' ? '--mode offload' : '--steer'}`,
      {
        help:
          mode === 'offload'
            ? 'cards run no dispatcher'
            : 'what is steered to a CPU does not come back to the dispatcher',
      },
    );
  const { checkLibxdp } = await import('../../gate/components.ts');
  checkLibxdp();
  return { priority };
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

async function hold(
  options: DaemonOptions,
  io: CommandIo,
  show: (report: UpReport) => void,
): Promise<SluiceError | undefined> {
  const { GateDaemon } = await import('../../gate/daemon.ts');
  const { interfacesText } = await import('../../gate/control-places.ts');
  const { ServiceManager } = await import('../../kernel/index.ts');
  using manager = ServiceManager.from(process.env);
  const daemon = await GateDaemon.start(options, (line) => io.warn(line));
  show(daemon.report);
  io.say('ready');
  const on = interfacesText(daemon.report.interfaces.map((each) => each.interface));
  manager?.ready(() => `the gate is up on ${on}`);
  const stopped = new Promise<undefined>((done) => {
    io.stop.addEventListener('abort', () => done(undefined), { once: true });
    if (io.stop.aborted) done(undefined);
  });
  const problem = await Promise.race([daemon.ended, stopped]);
  manager?.stopping();
  await daemon.close();
  if (problem !== undefined) throw problem;
  return undefined;
}

function fileMode(text: string): number {
  if (!/^0?[0-7]{3}$/.test(text)) throw new InvalidArgumentError('not a mode such as 0640');
  return Number.parseInt(text, 8);
}
