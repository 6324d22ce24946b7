import { existsSync } from 'node:fs';
import { SluiceError } from '../base/errors.ts';
import { addon, type RawObject, type RawObjectFailure } from './addon.ts';
import { KernelError, VerifierError } from './errors.ts';
import { BpfMap } from './map.ts';
import { BpfProgram, loadError, logSizes } from './program.ts';

export interface ProgramOptions {
  /** XDP programs load with 0 unless told otherwise, so that tail calls with others' programs work. */
  expectedAttachType?: number;
  /** ProgramFlag.*; replaces those of the section's name. */
  flags?: number;
  /** Default true. */
  autoload?: boolean;
}

export interface ObjectOptions {
  /** `const volatile` globals by name. Numbers must fit the variable; arrays and structs are given as bytes. */
  constants?: Record<string, number | bigint | boolean | Uint8Array>;
  /** max_entries by map name. */
  mapSizes?: Record<string, number>;
  /** Maps to use instead of making new ones; they stay the caller's. */
  reuseMaps?: Record<string, BpfMap>;
  programs?: Record<string, ProgramOptions>;
  /** Default true: XDP programs of section xdp.frags take frames in several buffers. They go on to others that do the same only. */
  frags?: boolean;
}

const ENOSPC = 28;

/** The maps and programs of an object file. `close` closes them all; the kernel keeps what is attached or pinned. */
export class BpfObject {
  readonly path: string;
  readonly #maps = new Map<string, BpfMap>();
  readonly #programs = new Map<string, BpfProgram>();

  constructor(path: string, raw: RawObject) {
    this.path = path;
    for (const [name, fd] of raw.maps) this.#maps.set(name, BpfMap.fromFd(fd));
    for (const [name, fd] of raw.programs) this.#programs.set(name, BpfProgram.fromFd(fd));
  }

  get maps(): ReadonlyMap<string, BpfMap> {
    return this.#maps;
  }

  get programs(): ReadonlyMap<string, BpfProgram> {
    return this.#programs;
  }

  /** By the name in the source; data sections as `.rodata`, `.bss`. */
  map(name: string): BpfMap {
    const map = this.#maps.get(name);
    if (map === undefined) throw new SluiceError('OBJECT_INVALID', `${this.path} has no map named ${name}`);
    return map;
  }

  program(name: string): BpfProgram {
    const program = this.#programs.get(name);
    if (program === undefined)
      throw new SluiceError('OBJECT_INVALID', `${this.path} has no program named ${name}`);
    return program;
  }

  close(): void {
    for (const map of this.#maps.values()) map.close();
    for (const program of this.#programs.values()) program.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/**
 * Loads a compiled BPF object. Throws VerifierError with the whole log when the verifier refuses one of its programs,
 * OBJECT_INVALID when the file is missing, damaged or lacks what the options name.
 */
export function loadObject(path: string, options: ObjectOptions = {}): BpfObject {
  if (!existsSync(path)) {
    throw new SluiceError('OBJECT_INVALID', `there is no BPF object ${path}`, {
      help: 'build it with `npm run build`',
    });
  }
  const constants = Object.entries(options.constants ?? {}).map(
    ([name, value]): [string, Uint8Array, boolean] =>
      value instanceof Uint8Array ? [name, value, false] : [name, scalarBytes(name, value), true],
  );
  const sizes = Object.entries(options.mapSizes ?? {});
  const reuse = Object.entries(options.reuseMaps ?? {}).map(([name, map]): [string, number] => [
    name,
    map.fd,
  ]);
  const programs = Object.entries(options.programs ?? {}).map(
    ([name, p]): [string, number, number, boolean] => [
      name,
      p.expectedAttachType ?? -1,
      p.flags ?? -1,
      p.autoload ?? true,
    ],
  );
  let failure: RawObjectFailure | undefined;
  for (const logSize of logSizes()) {
    const result = addon().loadObject(
      path,
      constants,
      sizes,
      reuse,
      programs,
      logSize,
      options.frags ?? true,
    );
    if (!('error' in result)) return new BpfObject(path, result);
    failure = result;
    if (result.error !== ENOSPC) break;
  }
  throw objectError(path, failure as RawObjectFailure);
}

function objectError(path: string, failure: RawObjectFailure): SluiceError {
  const { error, step, text, log } = failure;
  const program = /prog '([^']*)': (?:BPF program load failed|failed to load)/.exec(text)?.[1];
  if (program !== undefined) {
    const thrown = loadError('object.load', error, program, log, text.trim());
    if (thrown instanceof VerifierError) return thrown;
    return new KernelError('program.load', error, `load program ${program} of ${path}`, {
      cause: text.trim(),
    });
  }
  const what = step === 'load' || step === 'open' ? `${step} ${path}` : `${path}: ${step}`;
  return new KernelError('object.load', error, what, text === '' ? {} : { cause: text.trim() });
}

function scalarBytes(name: string, value: number | bigint | boolean): Uint8Array {
  if (typeof value === 'number' && !Number.isSafeInteger(value)) {
    throw new RangeError(`constant ${name} is not a whole number`);
  }
  const wide = BigInt(value);
  if (wide < -(2n ** 63n) || wide >= 2n ** 64n) throw new RangeError(`constant ${name} does not fit 64 bits`);
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt.asUintN(64, wide), true);
  return bytes;
}
