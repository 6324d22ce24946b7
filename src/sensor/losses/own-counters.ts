import { END_REASONS } from '../../gate/layout.ts';
import { adder, type CounterReading, GAUGE, OURS } from '../../gate/losses/index.ts';
import { Stat } from '../setup.ts';
import type { Station } from '../station.ts';
import { udpBooks } from '../udp-books.ts';
import { engineReadings } from './engine-readings.ts';

/** The counters of captures, workers and logs. */

/** Shunts of one source, and what each of its workers got, lost and saw missing. */
export function stationReadings({ name, kind, gate, stats }: Station, out: CounterReading[]): void {
  if (gate !== undefined) shuntReadings(name, stats, out);
  for (const [number, of] of stats.entries()) {
    const where = stats.length > 1 ? `${name} worker ${number}` : name;
    if (kind === 'udp') socketReadings(where, of, out);
    else ringReadings(where, of, out);
    workerReadings(where, of, out);
  }
}

function shuntReadings(name: string, stats: readonly Float64Array[], out: CounterReading[]): void {
  const put = adder(out, 'gate', name);
  const sum = (place: number): number => stats.reduce((total, of) => total + of[place], 0);
  put('shunts.started', 'count', 'entries', sum(Stat.shuntsStarted), OURS);
  put('shunts.live', 'count', 'entries', sum(Stat.shuntsLive), GAUGE);
  put('shunts.refused', 'warning', 'entries', sum(Stat.refused), OURS);
  for (const [place, reason] of END_REASONS.entries())
    if (reason !== '') put(`shunts.ended.${reason}`, 'count', 'entries', sum(Stat.ended + place), OURS);
}

function ringReadings(where: string, of: Float64Array, out: CounterReading[]): void {
  const put = adder(out, 'capture', where);
  // The kernel counts those that it had no room for among them.
  put('received', 'count', 'packets', of[Stat.ringPackets] - of[Stat.ringDrops], OURS);
  put('ringFull', 'loss', 'packets', of[Stat.ringDrops], OURS);
  put('ringFreezes', 'warning', 'events', of[Stat.ringFreezes], OURS);
}

function socketReadings(where: string, of: Float64Array, out: CounterReading[]): void {
  const put = adder(out, 'capture', where);
  const { datagrams, dropped, cut, early, bad } = udpBooks([of]);
  put('received', 'count', 'packets', datagrams - dropped, OURS);
  put('socketFull', 'loss', 'packets', dropped, OURS);
  put('cut', 'warning', 'packets', cut, OURS);
  put('early', 'count', 'packets', early, OURS);
  for (const [reason, datagramsOf] of Object.entries(bad))
    put(`bad.${reason}`, 'warning', 'packets', datagramsOf, OURS);
}

function workerReadings(where: string, of: Float64Array, out: CounterReading[]): void {
  const put = adder(out, 'worker', where);
  engineReadings(
    where,
    {
      handled: of[Stat.packets],
      unparsed: of[Stat.unparsed],
      evicted: of[Stat.evicted],
      losses: of.subarray(Stat.losses),
    },
    out,
  );
  put('late', 'warning', 'packets', of[Stat.latePackets], OURS);
  put('notesLost', 'warning', 'entries', of[Stat.notesLost], OURS);
  put('bypassed', 'count', 'packets', of[Stat.bypassedPackets], OURS);
}

/** Lines for which the log thread had no room. */
export function queueReadings(stations: readonly Station[], out: CounterReading[]): void {
  let queue = 0;
  for (const { stats } of stations) for (const of of stats) queue += of[Stat.logLinesLost];
  adder(out, 'log', '')('queueFull', 'loss', 'lines', queue, OURS);
}
