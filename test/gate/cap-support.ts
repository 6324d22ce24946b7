import { type ChildProcess, execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { compileFilterText } from '../../src/filter/index.ts';
import { Capture, type CaptureOptions, type VerdictCounts } from '../../src/gate/cap.ts';
import { ACTIONS } from '../../src/gate/cap-hook.ts';
import type { Gate } from '../../src/gate/gate.ts';
import { type BpfObject, type BpfProgram, ensureBpffs, loadObject } from '../../src/kernel/index.ts';
import { type Outcome, start } from '../support/command.ts';
import { bpfObject } from '../support/kernel.ts';

/** A packet as tshark reads it from a capture. */
export interface Shown {
  interface: string;
  comment: string;
  length: number;
  captured: number;
}

/** Every packet of a file, read block by block: interface names and comments. */
export function shown(file: string): Shown[] {
  const bytes = readFileSync(file);
  const names: string[] = [];
  const packets: Shown[] = [];
  for (let at = 0; at < bytes.length; at += bytes.readUInt32LE(at + 4)) {
    const end = at + bytes.readUInt32LE(at + 4) - 4;
    const option = (from: number, code: number): string => {
      for (
        let o = from;
        o < end && bytes.readUInt16LE(o) !== 0;
        o += 4 + ((bytes.readUInt16LE(o + 2) + 3) & ~3)
      )
        if (bytes.readUInt16LE(o) === code)
          return bytes.toString('utf8', o + 4, o + 4 + bytes.readUInt16LE(o + 2));
      return '';
    };
    const type = bytes.readUInt32LE(at);
    if (type === 1) names.push(option(at + 16, 2));
    if (type !== 6) continue;
    const captured = bytes.readUInt32LE(at + 20);
    const comment = option(at + 28 + ((captured + 3) & ~3), 1);
    const name = names[bytes.readUInt32LE(at + 8)];
    packets.push({ interface: name, comment, length: bytes.readUInt32LE(at + 24), captured });
  }
  return packets;
}

/** Fields of every packet of a file. */
export function tshark(file: string): Shown[] {
  const names = ['frame.interface_name', 'frame.comment', 'frame.len', 'frame.cap_len'];
  const fields = names.flatMap((field) => ['-e', field]);
  const text = execFileSync('tshark', ['-n', '-r', file, '-T', 'fields', ...fields], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
    maxBuffer: 2 ** 28,
  });
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) => {
      const [name, comment, length, captured] = line.split('\t');
      return { interface: name, comment, length: Number(length), captured: Number(captured) };
    });
}

/** Lines of tcpdump on a file. */
export function tcpdump(file: string, ...args: string[]): string[] {
  const text = execFileSync('tcpdump', ['-nn', '-r', file, ...args], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
    maxBuffer: 2 ** 28,
  });
  return text.split('\n').slice(0, -1);
}

/** A program of somebody else's, with its hook pinned. */
export class Foreign {
  readonly hook: string;
  readonly object: BpfObject;
  readonly program: BpfProgram;

  constructor(name: 'test_plain' | 'test_frags', expectedAttachType: number) {
    this.object = loadObject(bpfObject('test_hook'), {
      programs: {
        test_plain: { autoload: name === 'test_plain', expectedAttachType },
        test_frags: { autoload: name === 'test_frags', expectedAttachType },
      },
    });
    this.program = this.object.program(name);
    this.hook = join(ensureBpffs(), `sluice-test-${process.pid}-${name}-${expectedAttachType}`);
    this.object.map('test_hook').pin(this.hook);
  }

  run(data: Uint8Array, repeat = 1): number {
    return this.program.testRun({ data, repeat }).retval;
  }

  [Symbol.dispose](): void {
    rmSync(this.hook, { force: true });
    this.object.close();
  }
}

export const hookOf = (gate: Gate): string => gate.pins['hook'];

/** A directory for captures. */
export class Captures {
  readonly dir: string = mkdtempSync(join(tmpdir(), 'sluice-cap-'));

  at(name: string): string {
    return join(this.dir, name);
  }

  [Symbol.dispose](): void {
    rmSync(this.dir, { recursive: true });
  }
}

/** Captures what `run` makes happen, from one hook; ends, and answers with what was counted. */
export async function captured(
  hook: string,
  path: string,
  run: (capture: Capture) => void | Promise<void>,
  options: Partial<CaptureOptions> & { expression?: string } = {},
): Promise<{ counts: ReturnType<Capture['counts']>; names: string[] }> {
  const { expression = '', ...others } = options;
  const capture = new Capture({
    hooks: [{ path: hook, name: dirname(hook) }],
    actions: ACTIONS,
    filter: expression === '' ? undefined : compileFilterText(expression, 'tcpdump'),
    filterText: expression,
    snaplen: 65_535,
    sample: 1,
    ringBytes: 1 << 20,
    count: undefined,
    output: { path },
    application: 'test',
    ...others,
  });
  try {
    await run(capture);
    await capture.stop();
    await capture.finish();
    return { counts: capture.counts(), names: [...capture.output.names] };
  } finally {
    capture.close();
  }
}

/** What `sluice cap --json` prints. */
export interface Report {
  packets: number;
  files: string[];
  verdicts: Record<string, VerdictCounts>;
}

/** Starts a capture as a process; resolves once it captures. */
export const cap = (...args: string[]): ReturnType<typeof ready> => ready('cap', ...args);

/** Starts a command as a process; resolves once it is ready. */
export async function ready(...args: string[]): Promise<{ child: ChildProcess; outcome: Promise<Outcome> }> {
  const { child, outcome } = start(...args);
  let talk = '';
  await new Promise<void>((resolve, reject) => {
    child.stderr.on('data', (data: Buffer) => {
      talk += data.toString();
      if (/^ready$/m.test(talk)) resolve();
    });
    child.once('close', () => reject(new Error(talk)));
  });
  return { child, outcome };
}
