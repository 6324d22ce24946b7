import { setPriority } from 'node:os';

/** Of nice(2): before all that runs as usual, behind what an operator has put first. */
const FIRST = -10;

/**
 * Puts this thread, and those that it starts from now on, before others that want the CPU (nice -10; needs CAP_SYS_NICE, without
 * which nothing changes): for what has to answer while something else takes all of the machine.
 */
export function takePrecedence(): void {
  try {
    setPriority(FIRST);
  } catch {
    // Not allowed: it takes its turn as everybody else.
  }
}
