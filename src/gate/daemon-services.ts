import { takePrecedence } from '../base/priority.ts';
import type { Place } from './control-places.ts';
import type { StatusReport } from './control-protocol.ts';
import { FleetKeeper } from './daemon-fleet.ts';
import type { DaemonJournal } from './daemon-journal.ts';
import { MitigationKeeper } from './daemon-mitigation.ts';
import type { DaemonOptions } from './daemon-options.ts';
import type { RuleKeeper } from './daemon-rules.ts';
import { SamplesKeeper } from './daemon-samples.ts';
import type { Gate } from './gate.ts';

interface Home {
  options: DaemonOptions;
  gate: Gate;
  place: Place;
  rules: RuleKeeper;
  journal: DaemonJournal;
  warn: (text: string) => void;
}

/** What a daemon does beside keeping its tables, each by choice: it detects and mitigates, gives samples away, takes a fleet's rules. */
export class DaemonServices {
  #mitigation: MitigationKeeper | undefined;
  #samples: SamplesKeeper | undefined;
  #fleet: FleetKeeper | undefined;

  start({ options, gate, place, rules, journal, warn }: Home): void {
    const { mitigation, logDir, samples, fleet, site, roles } = options;
    if (mitigation !== undefined) {
      // What a flood leaves of the CPUs has to be enough to hold it back.
      takePrecedence();
      this.#mitigation = new MitigationKeeper(mitigation, { gate, rules, place, logDir, warn });
    }
    if (samples !== undefined) this.#samples = new SamplesKeeper(samples, gate, warn);
    if (fleet !== undefined) {
      const seen = () => gate.ledger().seen;
      this.#fleet = new FleetKeeper(fleet, { rules, place, audit: journal.audit, seen, site, roles, warn });
    }
  }

  status(): Pick<StatusReport, 'samples' | 'fleet'> {
    return { samples: this.#samples?.status() ?? null, fleet: this.#fleet?.status() ?? null };
  }

  async close(): Promise<void> {
    await this.#mitigation?.close();
    await this.#samples?.close();
    await this.#fleet?.close();
  }
}
