import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Argument, InvalidArgumentError, Option } from 'commander';
import { outputSchema } from '../../base/config.ts';
import { SluiceError } from '../../base/errors.ts';
import type { CommandIo } from '../../base/io.ts';
import { grouped, parseBytes, parseDuration } from '../../base/units.ts';
import { LANGUAGES, type Language } from '../../filter/index.ts';
import type { Capture, VerdictCounts } from '../../gate/cap.ts';
import { ACTIONS, type Action } from '../../gate/cap-hook.ts';
import { wholeNumber } from '../arguments.ts';
import type { Register } from '../command.ts';
import { addFlags, configOf } from '../flags.ts';
import { errorDocument } from '../report-error.ts';
import { version } from '../version.ts';

const STDOUT = '-';
/** What bpf_xdp_load_bytes reaches of a frame. */
const MAX_SNAPLEN = 65_535;
const MAX_HOOKS = 16;
const TICK_MS = 500;
/** How long a gate is waited for that is to leave notes; it looks once a second. */
const NOTES_MS = 5000;

interface Options {
  write: string;
  lang: Language;
  verdict: Action[];
  snaplen: number;
  sample: number;
  buffer: number;
  count?: number;
  duration?: number;
  rotateSize?: number;
  rotateInterval?: number;
  files?: number;
}

/** `sluice cap IFACE|PIN [EXPR] -w FILE` */
export const registerCap: Register = (program, host) => {
  const command = program
    .command('cap')
    .description('Capture packets with what became of them, at the exit of a gate or of any xdpcap hook.')
    .addArgument(
      new Argument(
        '<IFACE|PIN>',
        'an interface with a gate, or where a hook is pinned; several separated by commas',
      ),
    )
    .addArgument(new Argument('[EXPR...]', 'what to capture (default: everything)'))
    .addOption(new Option('-w, --write <FILE>', 'Write pcapng here; - is stdout.').makeOptionMandatory())
    .addOption(
      new Option('--verdict <LIST>', 'Capture what had these XDP actions.')
        .default(ACTIONS, ACTIONS.join(','))
        .argParser(verdicts),
    )
    .addOption(
      new Option('--lang <LANG>', 'What language the expression is written in (docs/filters.md).')
        .choices(LANGUAGES)
        .default('tcpdump'),
    )
    .addOption(
      new Option('-s, --snaplen <BYTES>', 'Bytes of a packet at most.')
        .argParser(wholeNumber(1, MAX_SNAPLEN))
        .default(MAX_SNAPLEN),
    )
    .addOption(
      new Option('--sample <N>', 'Capture one in so many of the packets that match.')
        .argParser(wholeNumber(1, 1e9))
        .default(1),
    )
    .addOption(
      new Option('--buffer <BYTES>', 'Packets that wait in the kernel; a power of two.')
        .argParser(bufferSize)
        .default(16 << 20, '16MiB'),
    )
    .addOption(new Option('-c, --count <N>', 'End after so many packets.').argParser(wholeNumber(1, 1e15)))
    .addOption(new Option('--duration <TIME>', 'End after this time.').argParser(duration))
    .addOption(
      new Option(
        '--rotate-size <BYTES>',
        'Go on in a new file (FILE-00001, …) before one gets larger.',
      ).argParser((text) => bytes(text, 1024)),
    )
    .addOption(
      new Option('--rotate-interval <TIME>', 'Go on in a new file after this time.').argParser(duration),
    )
    .addOption(
      new Option('--files <N>', 'Keep the latest files, remove older ones.').argParser(wholeNumber(1, 1e6)),
    )
    .action(async (target: string, words: string[]) => {
      const { config } = configOf(command, outputSchema);
      const options = command.opts<Options>();
      await host.run(config, (io) => capture(target, words.join(' '), options, config.json, io));
    });
  addFlags(command, outputSchema);
  command.addHelpText(
    'after',
    `
Examples:
  sluice cap eth1 -w trace.pcapng                                 until Ctrl-C
  sluice cap eth1 'tcp port 443' --verdict drop -w - | tshark -r -
  sluice cap eth1 --sample 100 --snaplen 128 --duration 1m -w trace.pcapng
  sluice cap eth1 --rotate-size 100MB --files 10 -w /var/tmp/trace.pcapng
  sluice cap /sys/fs/bpf/lb_hook --lang dns example.com -w dns.pcapng`,
  );
};

async function capture(
  target: string,
  text: string,
  options: Options,
  json: boolean,
  io: CommandIo,
): Promise<SluiceError | undefined> {
  check(options, json);
  await checkPrivilege();
  const { compileFilterText } = await import('../../filter/index.ts');
  const { Capture } = await import('../../gate/cap.ts');
  const filter = text.trim() === '' ? undefined : compileFilterText(text, options.lang);
  const { rotateSize, rotateInterval, files } = options;
  const running = new Capture({
    hooks: await hooksOf(target),
    actions: options.verdict,
    filter,
    filterText: options.lang === 'tcpdump' || filter === undefined ? text.trim() : `${options.lang}: ${text}`,
    snaplen: options.snaplen,
    sample: options.sample,
    ringBytes: options.buffer,
    count: options.count,
    output: {
      path: options.write,
      ...(rotateSize === undefined ? {} : { rotateBytes: rotateSize }),
      ...(rotateInterval === undefined ? {} : { rotateSeconds: rotateInterval }),
      ...(files === undefined ? {} : { files }),
    },
    application: `sluice ${version()}`,
  });
  let problem: SluiceError | undefined;
  try {
    problem = await untilTheEnd(running, options, io);
    await running.stop();
  } finally {
    io.progressDone();
    // Once the files are closed: what did not get into them counts.
    await running.finish();
    problem ??= running.output.failure;
    report(running, target, options, { json, problem, io });
    running.close();
  }
  return problem;
}

async function untilTheEnd(
  running: Capture,
  options: Options,
  io: CommandIo,
): Promise<SluiceError | undefined> {
  const { promise: over, resolve } = Promise.withResolvers<undefined>();
  const end = (): void => resolve(undefined);
  io.stop.addEventListener('abort', end, { once: true });
  if (io.stop.aborted) end();
  const ending = Promise.race([over, running.ended]);
  const asked = performance.now();
  let ready = false;
  const look = (): void => {
    const late = performance.now() - asked > NOTES_MS;
    if (ready || !(running.noted || late)) return;
    ready = true;
    if (!running.noted)
      io.warn('the gate does not say why packets go the way they go (its process may be dead): no comments');
    io.say('ready');
  };
  look();
  const timer = setInterval(() => {
    look();
    running.tick();
    io.progress(`${grouped(running.packets)} packets captured`);
  }, TICK_MS);
  const limit = options.duration === undefined ? undefined : setTimeout(end, options.duration * 1000);
  try {
    return await ending;
  } finally {
    clearInterval(timer);
    clearTimeout(limit);
    io.stop.removeEventListener('abort', end);
  }
}

function report(
  running: Capture,
  target: string,
  options: Options,
  how: { json: boolean; problem: SluiceError | undefined; io: CommandIo },
): void {
  const { json, problem, io } = how;
  const verdicts = running.counts();
  if (json) {
    const document = {
      target,
      file: options.write,
      files: running.output.names,
      seconds: Number(running.seconds.toFixed(3)),
      packets: running.packets,
      verdicts,
      ...(problem === undefined ? {} : { error: errorDocument(problem) }),
    };
    io.out(`${JSON.stringify(document)}\n`);
    return;
  }
  for (const [action, counts] of Object.entries(verdicts))
    if (counts.seen > 0) io.say(`${action.padEnd(8)} ${countsText(counts)}`);
  const lost = Object.values(verdicts).reduce((sum, one) => sum + one.lost, 0);
  io.say(
    `${grouped(running.packets)} packets captured in ${running.seconds.toFixed(1)} s${lost > 0 ? `, ${grouped(lost)} lost (a larger --buffer, a filter or --sample would help)` : ''}`,
  );
}

function countsText(counts: VerdictCounts): string {
  const words: Record<keyof VerdictCounts, string> = {
    seen: 'seen',
    notMatched: 'not matched',
    notSampled: 'not sampled',
    captured: 'captured',
    lost: 'lost',
    surplus: 'after the last one',
  };
  return (Object.keys(words) as (keyof VerdictCounts)[])
    .filter((key) => counts[key] > 0 || key === 'captured')
    .map((key) => `${grouped(counts[key])} ${words[key]}`)
    .join(', ');
}

function wrong(message: string, help: string): never {
  throw new SluiceError('USAGE', message, { help });
}

function check(options: Options, json: boolean): void {
  const { write, files, rotateSize, rotateInterval } = options;
  const rotates = rotateSize !== undefined || rotateInterval !== undefined;
  if (write === STDOUT && json) wrong('--json does not go together with -w -', 'both would be on stdout');
  if (write === STDOUT && rotates) wrong('what goes to stdout has no files to rotate', 'name a file with -w');
  if (files !== undefined && !rotates)
    wrong('--files needs --rotate-size or --rotate-interval', 'there is one file otherwise');
  if (write === STDOUT && process.stdout.isTTY)
    wrong('a capture is nothing for a terminal', 'pipe it into tcpdump -r - or tshark -r -');
}

async function checkPrivilege(): Promise<void> {
  const { capabilities } = await import('../../kernel/index.ts');
  const held = capabilities();
  const missing = [...(held.bpf ? [] : ['CAP_BPF']), ...(held.netAdmin ? [] : ['CAP_NET_ADMIN'])];
  if (missing.length === 0) return;
  throw new SluiceError(
    'PRIVILEGE',
    `the process lacks ${missing.join(', ')}, which a capture at XDP needs`,
    {
      help: 'run as root; tcpdump sees what passes the gate, not what it drops',
    },
  );
}

/** Where the hooks of these interfaces and pins are. */
async function hooksOf(target: string): Promise<{ path: string; name: string }[]> {
  const { interfaceInfo } = await import('../../kernel/index.ts');
  const { gateName, placeWith } = await import('../../gate/control-places.ts');
  const { pinPath } = await import('../../gate/pins.ts');
  const names = target.split(',');
  if (names.length > MAX_HOOKS || new Set(names).size < names.length || names.includes('')) {
    throw new SluiceError('USAGE', `'${target}' is not a list of 1 to ${MAX_HOOKS} hooks`, {
      help: 'write it like eth1 or eth1,/sys/fs/bpf/other_hook, each once',
    });
  }
  const hooks = new Map<string, string[]>();
  for (const name of names) {
    // Interfaces that share a gate have one hook.
    const path = name.includes('/') ? name : interfaceHook(name);
    hooks.set(path, [...(hooks.get(path) ?? []), name]);
  }
  return [...hooks].map(([path, of]) => ({ path, name: of.join() }));

  function interfaceHook(name: string): string {
    const { index } = interfaceInfo(name);
    const path = join(pinPath(placeWith(index)?.name ?? gateName(index)), 'hook');
    if (existsSync(path)) return path;
    throw new SluiceError('GATE_DOWN', `no gate is up on ${name}`, {
      help: '`sluice gate up` or `sluice run` brings one; the hook of another program is named by its pin. A gate on sockets (`run --mode socket`) has none: others see every packet there, by tcpdump for instance',
    });
  }
}

/** Errors of units as those of arguments. */
function parsed<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw error instanceof SluiceError ? new InvalidArgumentError(`${error.message}; ${error.help}`) : error;
  }
}

function bytes(text: string, min: number): number {
  const value = parsed(() => parseBytes(text));
  if (value < min) throw new InvalidArgumentError(`at least ${min} bytes`);
  return value;
}

function bufferSize(text: string): number {
  const value = bytes(text, 4096);
  if (!Number.isInteger(Math.log2(value)) || value > 2 ** 30)
    throw new InvalidArgumentError('not a power of two from 4KiB to 1GiB');
  return value;
}

function duration(text: string): number {
  const value = parsed(() => parseDuration(text));
  if (value < 0.1 || value > 1e6) throw new InvalidArgumentError('not a time from 0.1 s to 1,000,000 s');
  return value;
}

function verdicts(text: string): Action[] {
  const names = text.split(',');
  const unknown = names.find((name) => !(ACTIONS as readonly string[]).includes(name));
  if (unknown !== undefined)
    throw new InvalidArgumentError(`'${unknown}' is not one of ${ACTIONS.join(', ')}`);
  return ACTIONS.filter((action) => names.includes(action));
}
