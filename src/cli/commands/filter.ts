import { readSync } from 'node:fs';
import { Argument, type Command, Option } from 'commander';
import { outputSchema } from '../../base/config.ts';
import { SluiceError } from '../../base/errors.ts';
import type { CommandIo } from '../../base/io.ts';
import { FileSource } from '../../capture/file.ts';
import type { CbpfProgram } from '../../ebpf/index.ts';
import { dltOf, type FilterEngine, FrameBatch, LANGUAGES, type Language } from '../../filter/index.ts';
import type { Packet } from '../../packet/packet.ts';
import { wholeNumber } from '../arguments.ts';
import type { Register } from '../command.ts';
import { addFlags, configOf } from '../flags.ts';
import { ReadProgress } from '../progress.ts';
import { type ErrorDocument, errorDocument } from '../report-error.ts';

const EMITS = ['cbpf', 'ebpf', 'stats', 'c', 'ddd', 'iptables', 'nft', 'tc'] as const;
type Emit = (typeof EMITS)[number];
const ENGINES = ['classic', 'kernel'] as const;

/** Longest expression or program that is read from standard input. */
const MAX_STDIN = 1 << 20;
/** Indices shown without --json. */
const SHOWN = 20;
const STDIN = '-';
/** What netfilter hands to its bpf match begins with the IP header. */
const RAW = 'RAW';
const ETHERNET = 'EN10MB';

interface Options {
  lang: Language;
  emit?: Emit;
  run?: string;
  engine?: (typeof ENGINES)[number];
  linktype?: string;
  snaplen?: number;
  optimize: boolean;
}

interface RunSummary {
  packets: number;
  matched: number;
  /** 0-based. */
  matches: number[];
  /** What the filter returned for each packet. */
  returns: number[];
  engine: string;
  seconds: number;
  packetsPerSecond: number;
  interrupted?: true;
  error?: ErrorDocument;
}

/** Everything on standard input, as text. */
function readStdin(): string {
  const pieces: Buffer[] = [];
  let bytes = 0;
  const piece = Buffer.alloc(65_536);
  for (;;) {
    let n: number;
    try {
      n = readSync(0, piece, 0, piece.length, null);
    } catch (error) {
      if (!(error instanceof Error && 'code' in error)) throw error;
      if (error.code === 'EOF') break;
      if (error.code === 'EAGAIN') {
        // A terminal or pipe that another process has set to non-blocking.
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
        continue;
      }
      throw new SluiceError('FILE', 'standard input cannot be read', { cause: error });
    }
    if (n === 0) break;
    bytes += n;
    if (bytes > MAX_STDIN)
      throw new SluiceError(
        'FILTER_INVALID',
        `a filter has at most ${MAX_STDIN} bytes; there are more on standard input`,
      );
    pieces.push(Buffer.from(piece.subarray(0, n)));
  }
  return Buffer.concat(pieces).toString('utf8');
}

const rows = (listing: string) => listing.trimEnd().split('\n');

const parts = () => import('../../filter/index.ts');

async function linkTypeOf(name: string): Promise<number> {
  const { linkTypeValue } = await import('../../kernel/index.ts');
  const value = linkTypeValue(name);
  if (value === undefined) {
    throw new SluiceError('USAGE', `--linktype: there is no link type ${JSON.stringify(name)}`, {
      help: 'EN10MB, RAW, LINUX_SLL, IEEE802_11_RADIO, …: the names of pcap-linktype(7)',
    });
  }
  return value;
}

/** Compiles the text for a link type. */
async function compiler(text: string, options: Options): Promise<(linkType: number) => CbpfProgram> {
  const { compileFilterText } = await parts();
  const { lang, snaplen, optimize } = options;
  return (linkType) =>
    compileFilterText(text, lang, { linkType, optimize, ...(snaplen === undefined ? {} : { snaplen }) });
}

/** Commands of netfilter and tc see the packet from elsewhere; each form has the link type that it is for. */
function linkTypeFor(emit: Emit, options: Options): string {
  const netfilter = emit === 'iptables' || emit === 'nft';
  const { linktype } = options;
  if (netfilter && linktype !== undefined && linktype.toUpperCase().replace(/^DLT_/, '') !== RAW) {
    throw new SluiceError(
      'USAGE',
      `--emit ${emit} is for link type RAW: netfilter's bpf match begins at the IP header`,
      {
        help: 'leave --linktype out; --emit tc is for Ethernet frames',
      },
    );
  }
  return linktype ?? (netfilter ? RAW : ETHERNET);
}

async function emit(text: string, options: Options, json: boolean, io: CommandIo): Promise<void> {
  const form = options.emit ?? 'cbpf';
  const linkName = linkTypeFor(form, options);
  const program = (await compiler(text, options))(await linkTypeOf(linkName));
  const { emitC, emitDdd, emitIptables, emitLine } = await parts();
  const { cbpfText, compile, disassemble } = await import('../../ebpf/index.ts');
  const say = (document: object, plain: string) => io.out(json ? `${JSON.stringify(document)}\n` : plain);
  switch (form) {
    case 'cbpf': {
      const listing = cbpfText(program);
      say({ linktype: linkName, instructions: program, text: rows(listing) }, listing);
      return;
    }
    case 'ebpf': {
      const { instructions } = compile(program);
      const listing = disassemble(instructions);
      say({ linktype: linkName, instructions, text: rows(listing) }, listing);
      return;
    }
    case 'stats':
      await stats(program, say, io);
      return;
    default: {
      const shown = text.trim().replace(/\s+/g, ' ');
      const about = [
        `${options.lang}: ${shown.length > 400 ? `${shown.slice(0, 400)}…` : shown}`,
        `link type ${linkName}; made by sluice filter`,
      ];
      const line =
        form === 'c'
          ? emitC(program, about)
          : form === 'ddd'
            ? emitDdd(program)
            : form === 'iptables'
              ? `${emitIptables(program)}\n`
              : form === 'nft'
                ? `iptables-nft -A INPUT -m bpf --bytecode '${emitIptables(program)}' -j DROP\n`
                : `tc filter add dev IFACE ingress bpf da bytecode '${emitLine(tcReturns(program))}'\n`;
      say({ linktype: linkName, emit: form, text: line }, line);
    }
  }
}

/** For tc in direct-action mode a match is TC_ACT_SHOT (2), anything else TC_ACT_UNSPEC (-1): the next filter decides. */
function tcReturns(program: CbpfProgram): CbpfProgram {
  const RET_K = 0x06;
  const RET_A = 0x16;
  const dynamic = program.findIndex(({ code }) => code === RET_A);
  if (dynamic >= 0) {
    throw new SluiceError(
      'FILTER_UNSUPPORTED',
      `instruction ${dynamic} returns what it has computed, which tc would take for an action`,
      {
        help: 'end the program with returns of constants',
      },
    );
  }
  return program.map((each) => (each.code === RET_K ? { ...each, k: each.k === 0 ? 0xffffffff : 2 } : each));
}

async function stats(
  program: CbpfProgram,
  say: (document: object, plain: string) => void,
  io: CommandIo,
): Promise<void> {
  const { compile } = await import('../../ebpf/index.ts');
  const { loadFilter } = await parts();
  const { instructions } = compile(program);
  let jitedBytes: number | null = null;
  try {
    using loaded = loadFilter(program);
    jitedBytes = loaded.info().jitedBytes;
  } catch (error) {
    if (!(error instanceof SluiceError) || error.exit !== 3) throw error;
    io.warn(`jitedBytes is not known: ${error.message}`);
  }
  const document = {
    cbpfInstructions: program.length,
    ebpfInstructions: instructions.length,
    jitedBytes,
  };
  say(
    document,
    `${document.cbpfInstructions} classic instructions, ${document.ebpfInstructions} of eBPF, ${jitedBytes ?? 'unknown'} bytes of machine code\n`,
  );
}

/** The frames of a file, through an engine for each link type among them. */
class Runner {
  readonly #engines = new Map<number, FilterEngine>();
  readonly #engineFor: (linkType: number) => FilterEngine;
  readonly #batch = new FrameBatch();
  #linkType = -1;
  readonly matches: number[] = [];
  readonly returns: number[] = [];

  constructor(engineFor: (linkType: number) => FilterEngine) {
    this.#engineFor = engineFor;
  }

  get full(): boolean {
    return this.#batch.full;
  }

  add(packet: Packet): void {
    const linkType = dltOf(packet.linkType);
    if (linkType !== this.#linkType || this.#batch.full) this.flush();
    this.#linkType = linkType;
    this.#batch.add(packet.u8, packet.offset, packet.caplen, packet.wirelen);
  }

  flush(): void {
    const batch = this.#batch;
    if (batch.count === 0) return;
    let engine = this.#engines.get(this.#linkType);
    if (engine === undefined) {
      engine = this.#engineFor(this.#linkType);
      this.#engines.set(this.#linkType, engine);
    }
    engine.run(batch, this.returns.length);
    for (let i = 0; i < batch.count; i++) {
      if (batch.returns[i] !== 0) this.matches.push(this.returns.length);
      this.returns.push(batch.returns[i]);
    }
    batch.clear();
  }

  close(): void {
    for (const engine of this.#engines.values()) engine.close();
  }
}

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

async function run(
  text: string,
  file: string,
  options: Options,
  json: boolean,
  io: CommandIo,
): Promise<SluiceError | undefined> {
  const { ClassicEngine, KernelEngine } = await parts();
  const { linkTypeName } = await import('../../kernel/index.ts');
  const engineName = options.engine ?? 'classic';
  const compile = await compiler(text, options);
  const fixed = options.linktype === undefined ? undefined : await linkTypeOf(options.linktype);
  // So that an expression that is not valid is found before the file is opened; it may be for another link type than Ethernet.
  try {
    compile(fixed ?? (await linkTypeOf(ETHERNET)));
  } catch (error) {
    const otherLink = error instanceof SluiceError && error.code === 'FILTER_UNSUPPORTED';
    if (!otherLink || fixed !== undefined) throw error;
  }
  const source = FileSource.open(file);
  const runner = new Runner((linkType) => {
    if (fixed !== undefined && linkType !== fixed)
      io.warn(
        `warning: ${file} has frames of link type ${linkTypeName(linkType) ?? linkType}, the filter is for ${options.linktype}`,
      );
    const program = compile(fixed ?? linkType);
    return engineName === 'kernel' ? new KernelEngine(program) : new ClassicEngine(program);
  });
  const begin = performance.now();
  const progress = new ReadProgress(io, source.totalBytes);
  const stopped = new Promise<void>((resolve) => {
    if (io.stop.aborted) resolve();
    io.stop.addEventListener('abort', () => resolve(), { once: true });
  });
  const sink = (packet: Packet) => runner.add(packet);
  try {
    while (!io.stop.aborted && source.drain(sink, 4096)) {
      progress.show(source.readBytes, runner.returns.length);
      await (source.starved ? Promise.race([source.wait(), stopped]) : turn());
    }
    runner.flush();
  } finally {
    progress.done();
    runner.close();
    source.close();
  }
  const seconds = (performance.now() - begin) / 1000;
  const { problem } = source;
  const summary: RunSummary = {
    packets: runner.returns.length,
    matched: runner.matches.length,
    matches: runner.matches,
    returns: runner.returns,
    engine: engineName,
    seconds: Number(seconds.toFixed(6)),
    packetsPerSecond: Math.round(runner.returns.length / Math.max(seconds, 1e-6)),
    ...(io.stop.aborted ? { interrupted: true } : {}),
    ...(problem === undefined ? {} : { error: errorDocument(problem) }),
  };
  if (json) io.out(`${JSON.stringify(summary)}\n`);
  else {
    io.out(`${summary.matched} of ${summary.packets} packets match\n`);
    if (summary.matched > 0) {
      const more = summary.matched > SHOWN ? `, … (--json has all)` : '';
      io.out(`packets (from 0): ${summary.matches.slice(0, SHOWN).join(', ')}${more}\n`);
    }
  }
  return problem;
}

async function filter(
  words: readonly string[],
  options: Options,
  json: boolean,
  io: CommandIo,
): Promise<SluiceError | undefined> {
  if (options.run !== undefined && options.emit !== undefined)
    throw new SluiceError('USAGE', '--run does not go together with --emit');
  if (options.engine !== undefined && options.run === undefined)
    throw new SluiceError('USAGE', '--engine needs --run FILE');
  const fromStdin = words.length === 1 && words[0] === STDIN;
  if (fromStdin && options.run === STDIN)
    throw new SluiceError('USAGE', 'the filter and the capture cannot both come from standard input');
  const text = fromStdin ? readStdin().trimEnd() : words.join(' ');
  if (options.run !== undefined) return await run(text, options.run, options, json, io);
  await emit(text, options, json, io);
  return undefined;
}

function withOptions(command: Command): void {
  command
    .addOption(
      new Option('--lang <LANG>', 'What language the filter is written in (docs/filters.md).')
        .choices(LANGUAGES)
        .default('tcpdump'),
    )
    .addOption(new Option('--emit <FORM>', 'Print it in this form (default: cbpf).').choices(EMITS))
    .addOption(new Option('--run <FILE>', 'Run it over a capture file instead; - is stdin.'))
    .addOption(
      new Option(
        '--engine <ENGINE>',
        "With --run: libpcap's interpreter, or compiled to eBPF in the kernel (default: classic).",
      ).choices(ENGINES),
    )
    .addOption(
      new Option(
        '--linktype <NAME>',
        'Link type of the frames, by its DLT name (default: EN10MB, with --run that of the file).',
      ),
    )
    .addOption(
      new Option('--snaplen <N>', 'What a match returns (default: 262144).').argParser(
        wholeNumber(1, 0xffffffff),
      ),
    )
    .addOption(new Option('--no-optimize', 'tcpdump: leave the program as it is generated (tcpdump -O).'));
}

/** `sluice filter EXPR` */
export const registerFilter: Register = (program, host) => {
  const command = program
    .command('filter')
    .description(
      'Compile a filter: to classic BPF, to eBPF, to what other tools take; or run it over a file.',
    )
    .addArgument(new Argument('<EXPR...>', 'the filter; - reads it from stdin'))
    .action(async (words: string[]) => {
      const { config } = configOf(command, outputSchema);
      const options = command.opts<Options>();
      await host.run(config, (io) => filter(words, options, config.json, io));
    });
  withOptions(command);
  addFlags(command, outputSchema);
  command.addHelpText(
    'after',
    `
Examples:
  sluice filter 'tcp port 443'                                    classic BPF, as tcpdump -d
  sluice filter 'tcp port 443' --emit stats --json
  sluice filter --lang dns 'example.com *.example.org' --emit c   for SO_ATTACH_FILTER
  sluice filter --lang suffix example.com --run trace.pcap        which packets match
  sluice filter --lang p0f '*:64:0:*:mss*20,7:mss,sok,ts,nop,ws:df,id+:0' --run trace.pcap
  sluice filter --lang quic 'quic initial port 443' --run trace.pcap --engine kernel --json
  tcpdump -ddd udp | sluice filter --lang cbpf - --emit ebpf`,
  );
};
