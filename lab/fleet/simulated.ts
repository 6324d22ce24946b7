// The body of a thread of simulated edges: what follows rules at a gate, without the gate. The clock of the whole thread may be wrong.
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { FLEET_PREFIX } from '../../src/fleet/statement.ts';
import { FleetKeeper } from '../../src/gate/daemon-fleet.ts';
import { type EdgePlace, type EdgeState, type Landing, liveRule } from './edge.ts';
import { MemoryRules } from './memory-rules.ts';
import { trueSeconds } from './until.ts';

export interface SimulatedOptions {
  readonly edges: readonly EdgePlace[];
  readonly source: string;
  readonly trust: string;
  /** For what each edge keeps. */
  readonly directory: string;
  /** Seconds that clocks are ahead. */
  readonly offset: number;
}
export type ToSimulated = { readonly kind: 'states' | 'close' };
export type FromSimulated =
  | { readonly kind: 'landed'; readonly landings: Landing[] }
  | { readonly kind: 'states'; readonly states: EdgeState[] }
  | { readonly kind: 'closed' };

const ROLES = ['edge'];
const EXPIRE_MS = 1000;
const FLUSH_MS = 50;

const options = workerData as SimulatedOptions;
const control = parentPort as MessagePort;
const tell = (message: FromSimulated): void => control.postMessage(message);

if (options.offset !== 0) {
  const real = Date.now;
  Date.now = () => real() + 1000 * options.offset;
}

let landed: Landing[] = [];

class SimulatedEdge {
  readonly #name: string;
  readonly #rules: MemoryRules;
  readonly #keeper: FleetKeeper;
  readonly #revisions = new Map<string, number>();

  constructor({ name, site }: EdgePlace) {
    this.#name = name;
    this.#rules = new MemoryRules({ name, site, roles: ROLES, interface: 'sim' });
    this.#keeper = new FleetKeeper(
      {
        nats: {},
        source: options.source,
        trust: [options.trust],
        programs: [],
        store: `${options.directory}/${name}.json`,
      },
      {
        rules: this.#rules,
        place: { ifname: 'sim' },
        node: name,
        site,
        roles: ROLES,
        audit: {
          write: (line) => {
            const live = liveRule(line);
            if (live === undefined) return;
            this.#revisions.set(live.id, live.revision);
            landed.push({ edge: name, ...live, at: trueSeconds() });
          },
        },
        // Edges are asked for what they refuse.
        warn: () => {},
      },
    );
  }

  expire(): void {
    this.#rules.expire();
  }

  state(): EdgeState {
    const { connected, age, lines, bad } = this.#keeper.status();
    const inForce = this.#rules.ids().map((id): [string, number] => {
      const named = id.slice(FLEET_PREFIX.length);
      return [named, this.#revisions.get(named) ?? 0];
    });
    return {
      edge: this.#name,
      connected,
      age,
      inForce: new Map(inForce),
      refused: lines.map(({ id, refused }) => `${id ?? ''} ${refused}`),
      bad: bad.map(({ id }) => id),
    };
  }

  close(): Promise<void> {
    return this.#keeper.close();
  }
}

const edges = options.edges.map((place) => new SimulatedEdge(place));
const timers = [
  setInterval(() => {
    for (const edge of edges) edge.expire();
  }, EXPIRE_MS),
  setInterval(flush, FLUSH_MS),
];

function flush(): void {
  if (landed.length === 0) return;
  tell({ kind: 'landed', landings: landed });
  landed = [];
}

async function close(): Promise<void> {
  for (const timer of timers) clearInterval(timer);
  await Promise.all(edges.map((edge) => edge.close()));
  tell({ kind: 'closed' });
  control.close();
}

control.on('message', ({ kind }: ToSimulated) => {
  if (kind === 'close') void close();
  else tell({ kind: 'states', states: edges.map((edge) => edge.state()) });
});
