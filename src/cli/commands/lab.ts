import { type Command, InvalidArgumentError, Option } from 'commander';
import {
  askLab,
  createLab,
  defaultSocket,
  type ImpairOptions,
  type LabInfo,
  type LabOptions,
  labInfo,
  presets,
  serveLab,
  type TrafficReport,
  type TrafficTally,
  type VlanOptions,
} from '../../../lab/index.ts';
import { outputSchema } from '../../base/config.ts';
import { SluiceError } from '../../base/errors.ts';
import { parseDuration, scaled } from '../../base/units.ts';
import type { Register } from '../command.ts';
import { addFlags, configOf } from '../flags.ts';
import { errorDocument } from '../report-error.ts';
import { registerLabFleet } from './lab-fleet.ts';

interface UpOptions {
  socket: string;
  mtu?: number;
  mbps?: number;
  queues?: number;
  vlan?: VlanOptions;
  impair?: ImpairOptions;
  pass?: ('a' | 'b')[];
  duration?: number;
}

/** Seconds; timers of the runtime hold no more than some weeks. */
const WEEK = 604_800;

/** `sluice lab up|traffic|down|fleet`. */
export const registerLab: Register = (program, host) => {
  const lab = program
    .command('lab')
    .description(
      'A test network in namespaces, with real clients and servers, to try everything on one machine.',
    );

  const up = lab
    .command('up')
    .description('Make it and own it: it goes down with this command, however that ends.')
    .addOption(new Option('--mtu <BYTES>', 'Largest IP packet (default: 1500).').argParser(whole))
    .addOption(
      new Option('--mbps <N>', 'Rate of client and server; 0: no limit (default: 1000).').argParser(whole),
    )
    .addOption(new Option('--queues <N>', 'Queues of each tap (default: 1).').argParser(whole))
    .addOption(
      new Option(
        '--vlan <ID[,OUTER][,client|server]>',
        'Tag what the taps see, or only what one side sends.',
      ).argParser(vlan),
    )
    .addOption(
      new Option(
        '--impair <seed=N,drop=P,duplicate=P,reorder=P>',
        'A bad link between client and server; shares from 0 to 1.',
      ).argParser(impairment),
    )
    .addOption(
      new Option(
        '--pass <a,b>',
        'Taps that no gate comes to: an XDP program that passes everything (default: b).',
      ).argParser(tapNames),
    )
    .addOption(new Option('--duration <SECONDS>', 'Take it down after this time.').argParser(seconds))
    .action(async () => {
      const { config } = configOf(up, outputSchema);
      const { socket, duration, pass, ...given } = up.opts<UpOptions>();
      await host.run(config, async (io) => {
        const { promise: ended, resolve: end } = Promise.withResolvers<void>();
        await using made = await createLab(labOptions(given, pass));
        const closeSocket = await serveLab(made, socket, () => {
          end();
          return made.close();
        });
        const timer = duration === undefined ? undefined : setTimeout(end, duration * 1000);
        io.stop.addEventListener('abort', () => end(), { once: true });
        if (config.json) io.out(`${JSON.stringify({ socket, ...labInfo(made) })}\n`);
        else io.out(description(labInfo(made), socket));
        io.say('up; Ctrl-C or `sluice lab down` takes it down');
        // Aborted while the lab was being made: its listener came too late.
        if (!io.stop.aborted) await ended;
        clearTimeout(timer);
        await made.close();
        await closeSocket();
        return undefined;
      });
    });
  withSocket(up);
  up.addHelpText(
    'after',
    `
Examples:
  sluice lab up
  sluice lab up --vlan 100 --impair seed=1,drop=0.002,duplicate=0.002,reorder=0.01`,
  );

  const traffic = lab
    .command('traffic')
    .description('Drive traffic in a lab that is up.')
    .addOption(new Option('--preset <NAME>', 'What to drive').choices(Object.keys(presets)).default('demo'))
    .addOption(
      new Option('--duration <SECONDS>', 'For this time (presets that repeat)')
        .argParser(seconds)
        .default(30),
    )
    .action(async () => {
      const { config } = configOf(traffic, outputSchema);
      const { socket, preset, duration } = traffic.opts<{
        socket: string;
        preset: string;
        duration: number;
      }>();
      await host.run(config, async (io) => {
        const onProgress = (value: unknown) => io.progress(progressLine(value as TrafficTally));
        const request = { command: 'traffic', preset, seconds: duration } as const;
        const report = await askLab<TrafficReport>(socket, request, { onProgress, signal: io.stop });
        io.progressDone();
        const problem =
          report.failures === 0
            ? undefined
            : new SluiceError('LAB', `${report.failures} transfers failed`, {
                help: 'the warnings say how the first of them failed',
              });
        for (const error of report.errors) io.warn(error);
        if (!config.json) io.out(reportText(report));
        else {
          const failure = problem === undefined ? {} : { error: errorDocument(problem) };
          io.out(`${JSON.stringify({ ...report, ...failure })}\n`);
        }
        return problem;
      });
    });
  withSocket(traffic);
  traffic.addHelpText('after', '\nExample:\n  sluice lab traffic --preset mixed --json');

  const down = lab
    .command('down')
    .description('Take down a lab that is up.')
    .action(async () => {
      const { config } = configOf(down, outputSchema);
      const { socket } = down.opts<{ socket: string }>();
      await host.run(config, async (io) => {
        await askLab(socket, { command: 'down' });
        if (config.json) io.out(`${JSON.stringify({ socket, down: true })}\n`);
        else io.say('the lab is down');
        return undefined;
      });
    });
  withSocket(down);
  down.addHelpText('after', '\nExample:\n  sluice lab down');
  registerLabFleet(lab, host);
};

function withSocket(command: Command): void {
  command.addOption(new Option('--socket <PATH>', 'Where the lab listens').default(defaultSocket()));
  addFlags(command, outputSchema);
}

function labOptions(
  given: Omit<UpOptions, 'socket' | 'duration' | 'pass'>,
  pass: ('a' | 'b')[] | undefined,
): LabOptions {
  const { mtu, mbps, queues, vlan, impair } = given;
  return {
    ...(mtu === undefined ? {} : { mtu }),
    ...(mbps === undefined ? {} : { mbps }),
    ...(queues === undefined ? {} : { queues }),
    ...(vlan === undefined ? {} : { vlan }),
    ...(impair === undefined ? {} : { impair }),
    ...(pass === undefined ? {} : { passOn: pass }),
  };
}

function whole(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('not a whole number');
  return Number(text);
}

function seconds(text: string): number {
  try {
    const value = parseDuration(text);
    if (value > 0 && value <= WEEK) return value;
  } catch {
    // Told below.
  }
  throw new InvalidArgumentError('not a time up to 7d, such as 30 or 5m');
}

function tapNames(text: string): ('a' | 'b')[] {
  const names = text.split(',').filter((name) => name !== '' && name !== 'none');
  if (names.some((name) => name !== 'a' && name !== 'b')) throw new InvalidArgumentError('a, b, a,b or none');
  return names as ('a' | 'b')[];
}

function vlan(text: string): VlanOptions {
  const parts = text.split(',');
  const last = parts.at(-1);
  const from = last === 'client' || last === 'server' ? last : undefined;
  const [inner, outer, beyond] = (from === undefined ? parts : parts.slice(0, -1)).map(whole);
  if (inner === undefined || beyond !== undefined) throw new InvalidArgumentError('one or two VLAN ids');
  return { inner, ...(outer === undefined ? {} : { outer }), ...(from === undefined ? {} : { from }) };
}

function impairment(text: string): ImpairOptions {
  const options: ImpairOptions = { seed: 1 };
  for (const part of text.split(',')) {
    const [name, value = ''] = part.split('=');
    if (!/^\d+(\.\d+)?$/.test(value)) throw new InvalidArgumentError(`${part} is not NAME=NUMBER`);
    if (name !== 'seed' && name !== 'drop' && name !== 'duplicate' && name !== 'reorder') {
      throw new InvalidArgumentError(`${name} is not seed, drop, duplicate or reorder`);
    }
    options[name] = Number(value);
  }
  return options;
}

function description(info: LabInfo, socket: string): string {
  const rows = Object.entries(info.namespaces).map(
    ([name, { path }]) => `  ${name.padEnd(8)} nsenter --net=${path} -- COMMAND`,
  );
  const taps = Object.entries(info.taps).map(([name, { ifname }]) => `tap ${name}: interface ${ifname}`);
  return `socket ${socket}\n${taps.join(', ')}\nenter a namespace:\n${rows.join('\n')}\n`;
}

function progressLine(tally: TrafficTally): string {
  const done = Object.values(tally.done).reduce((sum, count) => sum + count, 0);
  const bytes = tally.downloaded + tally.uploaded;
  const rate = scaled((bytes * 8) / Math.max(tally.seconds, 0.001), 'b/s');
  const failed = tally.failures === 0 ? '' : ` · ${tally.failures} failed`;
  return `${Math.floor(tally.seconds)} s · ${done} connections · ${scaled(bytes, 'B')} · ${rate}${failed}`;
}

function reportText(report: TrafficReport): string {
  const kinds = Object.entries(report.done).filter(([, count]) => count > 0);
  return [
    `${report.plan}: ${report.connections} connections in ${report.seconds.toFixed(1)} s${report.cut ? ' (cut short)' : ''}`,
    `  ${kinds.map(([kind, count]) => `${kind} ${count}`).join(', ')}`,
    `  down ${scaled(report.downloaded, 'B')}, up ${scaled(report.uploaded, 'B')}, failed ${report.failures}`,
    report.open === 0 ? '' : `  ${report.open} connections left open`,
    '',
  ]
    .filter((line, index, all) => line !== '' || index === all.length - 1)
    .join('\n');
}
