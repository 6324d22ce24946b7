import { expect } from 'vitest';
import {
  type CompileOptions,
  cbpfText,
  compile,
  OPTIONAL_PASSES,
  type Passes,
} from '../../src/ebpf/index.ts';
import {
  isRefusal,
  runCompiled,
  runInterpreter,
  runLibpcap,
  runSocket,
  splitsFrames,
  wantedOfSocket,
} from '../ebpf/engines.ts';
import { flavourOf, Random, randomPacket, randomProgram } from '../ebpf/random-program.ts';
import { kernelTest } from '../support/kernel.ts';

const PROGRAMS = Number(process.env['SLUICE_FUZZ_PROGRAMS'] ?? 100_000);
const FIRST = Number(process.env['SLUICE_FUZZ_FIRST'] ?? 0);
const PACKETS = 4;

const none: Passes = Object.fromEntries(OPTIONAL_PASSES.map((pass) => [pass, false]));
/** All passes, all but one, none: in turn. */
const SELECTIONS: readonly Passes[] = [{}, ...OPTIONAL_PASSES.map((pass) => ({ [pass]: false })), {}, none];

kernelTest(
  `${PROGRAMS} random programs do the same on every engine, with and without each pass`,
  [],
  () => {
    const splits = splitsFrames();
    let [matches, refused, calls] = [0, 0, 0];
    for (let seed = FIRST; seed < FIRST + PROGRAMS; seed++) {
      const random = new Random(seed);
      const program = randomProgram(random, flavourOf(random));
      const packets = Array.from({ length: PACKETS }, () => randomPacket(random));
      const wanted = runInterpreter(program, packets);
      matches += wanted.filter((value) => value !== 0).length;
      const passes = SELECTIONS[seed % SELECTIONS.length];
      // A third of the programs read frames whose first buffer ends somewhere in the packet.
      const frags = splits && seed % 3 === 0;
      const linear = frags ? random.below(70) : undefined;
      let options: CompileOptions = { passes, frags };
      const say = (engine: string): string =>
        `seed ${seed}, ${engine}, ${JSON.stringify({ ...options, linear })}\n${cbpfText(program)}${compile(program, options).ir}`;
      const same = (got: readonly number[], want: readonly number[], engine: string): void => {
        if (!got.every((value, index) => value === want[index])) expect(got, say(engine)).toEqual(want);
      };
      same(runLibpcap(program, packets), wanted, 'libpcap');
      same(runSocket(program, packets), wantedOfSocket(program, packets), 'socket');
      try {
        same(runCompiled(program, packets, options, linear), wanted, 'eBPF');
      } catch (error) {
        if (!isRefusal(error)) throw new Error(say('load'), { cause: error });
        refused++;
        options = { passes, directAccess: false };
        same(runCompiled(program, packets, options, linear), wanted, 'eBPF, calls only');
      }
      if (splits && seed % 10 === 0) {
        options = { passes, directAccess: false };
        same(runCompiled(program, packets, options, random.below(70)), wanted, 'eBPF, calls only');
        calls++;
      }
    }
    // Programs that never match would show nothing.
    expect(matches / (PROGRAMS * PACKETS)).toBeGreaterThan(0.3);
    expect(refused).toBeLessThan(PROGRAMS / 5000);
    expect(calls).toBe(splits ? Math.ceil(PROGRAMS / 10) : 0);
  },
  1_800_000,
);
