import { SluiceError } from '../base/errors.ts';
import { type BpfMap, type BpfObject, type BpfProgram, loadObject } from '../kernel/index.ts';
import { bpfObjectPath } from './kind.ts';

/** Place of the flag in the object's global variables: bpf/xsk.bpf.c has this one, and what is there for its layout. */
const GLOBALS = '.bss';

/**
 * What stands behind the gate's pass verdict when frames are taken by AF_XDP: a program for the slot `next`, and the map by
 * which it finds the socket of each queue.
 */
export class FrameStage {
  readonly #object: BpfObject;
  readonly #veth: boolean;

  /**
   * @param queues receive queues of the interface
   * @param kind what sort of interface it is: the packets that a veth makes its frames of can be asked for more
   */
  constructor(queues: number, kind: string) {
    this.#veth = kind === 'veth';
    this.#object = load(queues, this.#veth);
  }

  /** For Gate.setNext. */
  get program(): BpfProgram {
    return this.#object.program('sluice_xsk');
  }

  /** A socket for each queue. */
  get sockets(): BpfMap {
    return this.#object.map('xsks');
  }

  /** Once it is known where the gate runs. */
  attached(mode: string): void {
    if (!this.#veth || mode !== 'native') return;
    const globals = this.#object.map(GLOBALS);
    const value = new Uint8Array(globals.valueBytes);
    new DataView(value.buffer).setUint32(0, 1, true);
    globals.set(new Uint8Array(4), value);
  }

  close(): void {
    this.#object.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Looking behind the context wants Linux 6.2: tried first where it is of use. */
function load(queues: number, peek: boolean): BpfObject {
  const path = bpfObjectPath('xsk');
  const mapSizes = { xsks: queues };
  if (peek) {
    try {
      return loadObject(path, { mapSizes, constants: { cfg_peek: 1 } });
    } catch (error) {
      if (!(error instanceof SluiceError)) throw error;
    }
  }
  return loadObject(path, { mapSizes });
}
