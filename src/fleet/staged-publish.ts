import { type CanaryEdge, CanaryTrial, stagesOf } from './canary.ts';
import type { NatsDesk } from './nats-desk.ts';

export interface StagedOptions {
  /** Seconds for which a canary has to be good. */
  readonly seconds: number;
  /** Of the packets at any canary edge that a rule may drop, 0 to 1. */
  readonly mostDropped: number | undefined;
  /** Ends it; canaries stay where they are. */
  readonly stop: AbortSignal;
  /** Told what an edge says of a canary when it says something else than before. */
  readonly told: (id: string, edge: CanaryEdge) => void;
}

export interface CanaryOutcome {
  id: string;
  sites: readonly string[];
  edges: CanaryEdge[];
  /** Why it stays at its canary sites; null: it is published for all that it is meant for. */
  why: string | null;
}

export interface PublishOutcome {
  published: string[];
  /** Not newer than what is there. */
  older: string[];
  canary: CanaryOutcome[];
}

/**
 * Publishes lines; a rule with a canary first at its sites, and for all only when nothing there speaks against it. Begun again it goes on
 * with canaries that are there. @throws SluiceError FILE_FORMAT, FLEET
 */
export async function publishStaged(
  desk: NatsDesk,
  lines: readonly string[],
  options: StagedOptions,
): Promise<PublishOutcome> {
  const { staged, plain } = stagesOf(lines);
  const { published, older } = await desk.publish([...plain, ...staged.map(({ canary }) => canary)]);
  const result: PublishOutcome = {
    published: published.filter((id) => !staged.some((one) => one.id === id)),
    older: [],
    canary: [],
  };
  if (staged.length === 0) return { ...result, older };
  const there = await desk.revisions(staged.map(({ id }) => id));
  const trials = staged
    .filter(({ id, revision }) => there.get(id) === revision)
    .map((one) => new CanaryTrial(one, options.mostDropped));
  result.older = older.filter((id) => !trials.some((trial) => trial.staged.id === id));
  await look(desk, trials, options);
  for (const trial of trials) {
    const { id, sites, whole } = trial.staged;
    const why = options.stop.aborted ? 'stopped before its time was over' : (trial.badInTheEnd ?? null);
    result.canary.push({ id, sites, edges: trial.edges, why });
    if (why !== null) continue;
    const done = await desk.publish([whole]);
    result.published.push(...done.published);
    result.older.push(...done.older);
  }
  return result;
}

/** Until the time is over, it is stopped, or all are bad. */
async function look(desk: NatsDesk, trials: readonly CanaryTrial[], options: StagedOptions): Promise<void> {
  if (trials.length === 0) return;
  const enough = new AbortController();
  const late = setTimeout(() => enough.abort(), options.seconds * 1000);
  try {
    await desk.follow(
      (edge) => {
        for (const trial of trials) {
          const news = trial.look(edge);
          if (news !== undefined) options.told(trial.staged.id, news);
        }
        if (trials.every(({ bad }) => bad !== undefined)) enough.abort();
      },
      AbortSignal.any([enough.signal, options.stop]),
    );
  } finally {
    clearTimeout(late);
  }
}
