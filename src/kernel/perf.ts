import { addon } from './addon.ts';
import { errnoName } from './errors.ts';

/** PERF_COUNT_HW_* of linux/perf_event.h. */
const Hardware = { cycles: 0, instructions: 1, cacheMisses: 3 } as const;

export interface PmuCounts {
  cycles: number;
  instructions: number;
  /** Of the last level of caches. */
  cacheMisses: number;
}

/** Hardware counters of some CPUs, over all that runs on them. */
export class Pmu {
  readonly #fds: Record<keyof PmuCounts, number[]> = { cycles: [], instructions: [], cacheMisses: [] };

  private constructor() {}

  /** Undefined counters: text that says why there are none. */
  static open(cpus: readonly number[]): Pmu | string {
    const pmu = new Pmu();
    for (const cpu of cpus) {
      for (const name of Object.keys(Hardware) as (keyof PmuCounts)[]) {
        const fd = addon().perfOpen(cpu, Hardware[name]);
        if (fd < 0) {
          pmu.close();
          const why = errnoName(-fd);
          return why === 'ENOENT' || why === 'EOPNOTSUPP'
            ? 'there is no hardware PMU here'
            : `perf_event_open answers ${why}`;
        }
        pmu.#fds[name].push(fd);
      }
    }
    return pmu;
  }

  /** Since they were opened, over all CPUs. */
  read(): PmuCounts {
    const sum = (name: keyof PmuCounts): number =>
      this.#fds[name].reduce((total, fd) => total + Math.max(0, addon().perfRead(fd)), 0);
    return { cycles: sum('cycles'), instructions: sum('instructions'), cacheMisses: sum('cacheMisses') };
  }

  close(): void {
    for (const fds of Object.values(this.#fds)) for (const fd of fds.splice(0)) addon().closeFd(fd);
  }
}
