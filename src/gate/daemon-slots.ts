import { SluiceError } from '../base/errors.ts';
import { BpfProgram } from '../kernel/index.ts';
import type { Request, RequestOf } from './control-protocol.ts';
import { protocolNumber } from './flow-key.ts';
import type { Gate } from './gate.ts';
import type { SlotStatus } from './slots.ts';
import type { TraceRow } from './trace.ts';

/** Milliseconds after which a trace that nobody reads is ended. */
const UNREAD_MS = 5000;

/** What other programs have to do with a gate: the one behind it, and who traces it. */
export class SlotKeeper {
  readonly #gate: Gate;
  #trace: ReturnType<Gate['trace']> | undefined;
  #read = 0;

  constructor(gate: Gate) {
    this.#gate = gate;
  }

  /** @throws SluiceError NOT_FOUND, PROGRAM_UNFIT */
  setNext({ pin }: RequestOf<'next'>): SlotStatus {
    if (pin === null) {
      this.#gate.setNext(undefined);
    } else {
      using program = openProgram(pin);
      this.#gate.setNext(program);
    }
    return this.#gate.slots();
  }

  /** @throws SluiceError EXISTS, NOT_FOUND, USAGE */
  trace(request: Extract<Request, { op: 'trace.start' | 'trace.read' | 'trace.stop' }>): unknown {
    if (request.op === 'trace.read') return this.#readTrace();
    if (request.op === 'trace.start') this.#startTrace(request);
    else this.#stopTrace();
    return {};
  }

  #startTrace({ proto, a, b }: RequestOf<'trace.start'>): void {
    if (this.#trace !== undefined)
      throw new SluiceError('EXISTS', 'somebody traces this gate already', { help: 'one at a time' });
    const number = proto === undefined ? undefined : protocolNumber(proto);
    this.#trace = this.#gate.trace({
      ...(number === undefined ? {} : { proto: number }),
      ...(a === undefined ? {} : { a: a.addr }),
      ...(b === undefined ? {} : { b: b.addr }),
      ...(a?.port === undefined ? {} : { portA: a.port }),
      ...(b?.port === undefined ? {} : { portB: b.port }),
    });
    this.#read = performance.now();
  }

  #readTrace(): { rows: TraceRow[]; lost: number } {
    if (this.#trace === undefined) throw new SluiceError('NOT_FOUND', 'no trace is going on');
    this.#read = performance.now();
    return this.#trace.read();
  }

  #stopTrace(): void {
    const trace = this.#trace;
    this.#trace = undefined;
    trace?.close();
  }

  /** Ends a trace whose reader has gone, and looks after captures at the exit hook. */
  check(): void {
    this.#gate.lookAfterCaptures();
    if (this.#trace !== undefined && performance.now() - this.#read > UNREAD_MS) this.#stopTrace();
  }
}

function openProgram(pin: string): BpfProgram {
  try {
    return BpfProgram.openPinned(pin);
  } catch (cause) {
    throw new SluiceError('NOT_FOUND', `there is no program pinned at ${pin}`, {
      cause,
      help: '`bpftool prog show pinned PATH` shows it; pins are under /sys/fs/bpf',
    });
  }
}
