import { mkdirSync } from 'node:fs';
import { SluiceError } from '../base/errors.ts';
import type { PairRow, ShuntRow, WatchEvent } from './control-protocol.ts';
import { AuditLog } from './daemon-audit.ts';
import { keyOf } from './daemon-requests.ts';
import type { Shunt } from './daemon-shunt.ts';
import { ShuntLog } from './daemon-shunt-log.ts';
import { flowText } from './flow-key.ts';
import type { PeerEvents } from './peer-keeper.ts';

interface Sums {
  pkts: number;
  ipBytes: number;
}

/** Whoever watches. */
export interface Audience {
  readonly watched: boolean;
  tell(event: WatchEvent): void;
}

/** What the gate knows of a shunt of another sensor beside its row. */
const OTHERS = { orig: undefined, trigger: '', since: undefined } as const;

const total = ({ ab, ba }: { ab: Sums; ba: Sums }): Sums => ({
  pkts: ab.pkts + ba.pkts,
  ipBytes: ab.ipBytes + ba.ipBytes,
});

/** Writes down what starts and ends at a gate (audit.log, shunt.log), and tells those who watch. */
export class DaemonJournal {
  readonly audit: AuditLog;
  readonly #shunts: ShuntLog;
  #audience: Audience | undefined;

  /** @throws SluiceError FILE */
  constructor(logDir: string, warn: (text: string) => void) {
    try {
      mkdirSync(logDir, { recursive: true });
      this.audit = new AuditLog(logDir, warn);
      this.#shunts = new ShuntLog(logDir, warn);
    } catch (cause) {
      throw new SluiceError('FILE', `cannot write logs in ${logDir}`, {
        cause,
        help: 'name another --log-dir',
      });
    }
  }

  /** From now on these are told. */
  tells(audience: Audience): void {
    this.#audience = audience;
  }

  /** @param row is asked for only where somebody wants it */
  started(shunt: Shunt, row: () => ShuntRow): void {
    this.#shunts.started(shunt, row());
    if (this.#audience?.watched === true)
      this.#audience.tell({ event: 'start', ts: shunt.since ?? Date.now() / 1000, shunt: row() });
  }

  ended(shunt: Shunt, reason: string, row: ShuntRow, first: number | undefined): void {
    this.#shunts.ended(shunt, reason, row, first);
    this.audit.write({
      op: 'end',
      owner: row.owner === '' ? undefined : row.owner,
      key: keyOf(shunt),
      trigger: shunt.trigger,
      reason,
      ...total(row),
    });
    this.#audience?.tell({ event: 'end', ts: Date.now() / 1000, reason, shunt: row });
  }

  /** What other sensors shunt through their own tables is written down like what is asked for. */
  ofPeers(): PeerEvents {
    return {
      started: (shunt) => {
        this.#ofPeer('add', shunt, flowText(shunt));
        this.#shunts.started(OTHERS, shunt);
        this.#audience?.tell({ event: 'start', ts: Date.now() / 1000, shunt });
      },
      ended: (shunt, reason) => {
        this.#ofPeer('end', shunt, flowText(shunt), reason);
        this.#shunts.ended(OTHERS, reason, shunt, shunt.since ?? undefined);
        this.#audience?.tell({ event: 'end', ts: Date.now() / 1000, reason, shunt });
      },
      pairStarted: (pair) => this.#ofPeer('pair.add', pair, pairText(pair)),
      pairEnded: (pair, reason) => this.#ofPeer('pair.end', pair, pairText(pair), reason),
    };
  }

  #ofPeer(op: string, row: { owner: string; ab: Sums; ba: Sums }, key: string, reason?: string): void {
    const end = reason === undefined ? {} : { reason, ...total(row) };
    this.audit.write({ op, owner: row.owner, key, trigger: row.owner, ...end });
  }

  close(): void {
    this.audit.close();
    this.#shunts.close();
  }
}

const pairText = ({ a, b }: Pick<PairRow, 'a' | 'b'>): string => `${a} ${b}`;
