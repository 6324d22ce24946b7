import { candidates, exceptions, splits } from './candidates.ts';
import type { Rows } from './columns.ts';
import { baseHolds } from './expression.ts';
import { featuresOf, holds, matching, type Term } from './features.ts';
import { KINDS } from './kinds.ts';
import { marks } from './marks.ts';
import { isSteady } from './steady.ts';

const MAX_TERMS = 5;
/** Bits that a term has to bring for each packet: against packets that were seen, and against made-up ones. */
const LEAST_GAIN = 0.001;
const LEAST_IMAGINED = 0.02;
/** As many packets as are made up for what is usual beside those that were seen: they differ as packets at large do. */
const IMAGINED = 20;
/** Of these all packets may be alike for a while, or for many others are alike too: taken only for what was seen to differ. */
const NOT_IMAGINED =
  /^(ip-id|seq|ack|tos|dont-fragment|source|flow-label|udp-checksum|flags|option-[48]|option-12|urgent)/;

/** Usual packets of a kind that speak for it; of fewer those of the protocol are asked as well. */
const ENOUGH_ALIKE = 20;

const narrowed = ({ columns, rows }: Rows, term: Term): Rows => ({
  columns,
  rows: rows.filter((row) => holds(columns, row, term)),
});

/**
 * The terms that tell most packets of an attack from the usual ones of its kind, found greedily by what a term gains in bits
 * (FOIL: Quinlan, Learning Logical Definitions from Relations, 1990). Both weigh alike, however many there are of either; with
 * `strictness` usual ones so many times as much, for terms that match less of the attack and none of them.
 */
export function findSignature(
  kind: number,
  family: 4 | 6,
  attack: Rows,
  usual: Rows,
  allowSources: boolean,
  strictness = 1,
): Term[] {
  const features = featuresOf(family, KINDS[kind].protocol).filter(
    // Said already.
    ({ name }) => name !== 'sport' || KINDS[kind].reflector === 0,
  );
  const steady = features
    .filter(({ name }) => allowSources || !name.startsWith('source'))
    .filter(isSteady(attack));
  const alike = usual.rows.filter(
    (row) => usual.columns.family[row] === family && baseHolds(kind, usual.columns, row),
  );
  // Both sides weigh alike, unless more is asked for.
  const scale = (strictness * attack.rows.length) / (alike.length + IMAGINED);
  const terms: Term[] = [];
  let positive = attack;
  const all: Rows = { columns: usual.columns, rows: alike };
  let negative = all;
  let imagined = IMAGINED;
  const isStrict = strictness > 1;
  const bits = (p: number, n: number): number => Math.log2((p + 0.5) / (p + n * scale + 1));
  while (terms.length < MAX_TERMS) {
    const before = bits(positive.rows.length, negative.rows.length + imagined);
    let best: Term | undefined;
    let most = LEAST_GAIN * positive.rows.length;
    for (const feature of features) {
      if (terms.some((term) => term.feature === feature)) continue;
      const said = steady.includes(feature)
        ? [...candidates(positive, feature), ...(isStrict ? splits(positive, all, feature) : [])]
        : [];
      for (const term of [...said, ...exceptions(negative, feature)]) {
        const p = matching(positive, term);
        const n = matching(negative, term);
        // What only made-up packets speak for must not cost any of the attack.
        const seen = n < negative.rows.length;
        if (!seen && (p < positive.rows.length || NOT_IMAGINED.test(feature.name))) continue;
        const share = NOT_IMAGINED.test(feature.name) ? 1 : usualShare(term);
        const gain = p * (bits(p, n + imagined * share) - before);
        if (gain <= most || (!seen && gain <= LEAST_IMAGINED * p)) continue;
        most = gain;
        best = term;
      }
    }
    if (best === undefined) break;
    terms.push(best);
    positive = narrowed(positive, best);
    negative = narrowed(negative, best);
    if (!NOT_IMAGINED.test(best.feature.name)) imagined *= usualShare(best);
  }
  const related =
    alike.length >= ENOUGH_ALIKE
      ? alike
      : usual.rows.filter(
          (row) =>
            usual.columns.family[row] === family && usual.columns.protocol[row] === KINDS[kind].protocol,
        );
  return [...terms, ...marks(steady, terms, positive, { columns: usual.columns, rows: related })];
}

/** Values that packets at large have: how many of them, about. */
const SPREAD: Record<string, number> = {
  ttl: 60,
  length: 1500,
  header: 4,
  protocol: 3,
  'icmp-type': 3,
  'option-kind': 3,
};

/** Share of packets at large for which a term may hold. */
function usualShare(term: Term): number {
  const { name, size, most } = term.feature;
  if ('except' in term) return 1;
  const port = name === 'sport' || name === 'dport';
  // Services are few, and everybody uses them.
  if (port && ('low' in term ? term.low : Math.min(...term.values)) < 1024) return 'low' in term ? 1 : 0.3;
  if ('low' in term) return Math.min(1, (term.high - term.low + 1) / (SPREAD[name] ?? most + 1));
  if (name.startsWith('option')) return Math.min(1, 0.4 * term.values.length);
  const spread =
    SPREAD[name] === undefined ? (size === 1 ? 16 : size === 2 ? 50 : 200) : Math.min(SPREAD[name], 30);
  return Math.min(1, term.values.length / spread);
}
