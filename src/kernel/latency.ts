import { closeSync, openSync, readdirSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';

/** An idle state of the processor. */
export interface IdleState {
  name: string;
  /** µs until it works again. */
  latency: number;
  disabled: boolean;
}

function text(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return undefined;
  }
}

/** Idle states of a CPU, the lightest first; empty where the kernel has none. */
export function idleStates(cpu: number, sysfs = '/sys'): IdleState[] {
  const dir = join(sysfs, `devices/system/cpu/cpu${cpu}/cpuidle`);
  let states: string[];
  try {
    states = readdirSync(dir).filter((name) => /^state\d+$/.test(name));
  } catch {
    return [];
  }
  return states
    .toSorted((a, b) => Number(a.slice(5)) - Number(b.slice(5)))
    .map((state) => ({
      name: text(join(dir, state, 'name')) ?? state,
      latency: Number(text(join(dir, state, 'latency')) ?? 0),
      disabled: text(join(dir, state, 'disable')) === '1',
    }));
}

/** Where the kernel names none. */
const USUAL_C1_US = 2;

/**
 * µs that allow C1 and nothing deeper. Never 0: that would keep the processor polling, which takes power and thermal room
 * from the cores that work, and time from their siblings.
 */
export function c1Latency(states: readonly IdleState[]): number {
  const c1 = states.find(
    ({ name, latency }) => latency > 0 && /^(C1|C1_ACPI|haltpoll|haltpoll idle|C1E)$/.test(name),
  );
  return Math.max(1, c1?.latency ?? USUAL_C1_US);
}

/**
 * Asks the processors of the machine to sleep no deeper than a latency allows, for as long as it is open
 * (Documentation/power/pm_qos_interface.rst).
 */
export class LatencyRequest {
  readonly microseconds: number;
  #fd: number;

  /** @throws Error of node:fs when the device is not there or may not be opened */
  constructor(microseconds: number, path = '/dev/cpu_dma_latency') {
    this.microseconds = microseconds;
    this.#fd = openSync(path, 'r+');
    try {
      writeSync(this.#fd, new Uint8Array(new Int32Array([microseconds]).buffer));
    } catch (error) {
      this.close();
      throw error;
    }
  }

  close(): void {
    if (this.#fd < 0) return;
    closeSync(this.#fd);
    this.#fd = -1;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
