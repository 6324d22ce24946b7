import type { StatusReport } from './control-protocol.ts';
import type { ShuntTable } from './daemon-table.ts';
import type { Gate } from './gate.ts';
import { LAYOUT_VERSION } from './layout.ts';
import { watchReport } from './watch.ts';

/** What the gate itself does not know. */
type Around = Pick<
  StatusReport,
  | 'interfaces'
  | 'vlanKey'
  | 'daemon'
  | 'owners'
  | 'holds'
  | 'control'
  | 'peers'
  | 'eve'
  | 'zeek'
  | 'samples'
  | 'fleet'
>;

/** Entries in the flow tables, and how many there may be. */
export function tableSizes(gate: Gate, table: ShuntTable): StatusReport['tables'] {
  const max = (name: string): number => gate.table(name).maxEntries;
  return {
    flows4: { entries: table.entries(4), max: max('flows4') },
    flows6: { entries: table.entries(6), max: max('flows6') },
  };
}

/** What `gate status` tells of a gate that has a daemon. */
export async function statusReport(gate: Gate, table: ShuntTable, around: Around): Promise<StatusReport> {
  const watch = await watchReport(gate.features.watch, (name) => gate.table(name));
  const { reasons, ...counts } = gate.ledger();
  return {
    ...around.interfaces[0],
    ...around,
    programId: gate.program.id,
    layout: LAYOUT_VERSION,
    features: gate.features,
    ...counts,
    ...gate.sampled(),
    reasons,
    tables: tableSizes(gate, table),
    slots: gate.slots(),
    steering: gate.steering() ?? null,
    watch: watch ?? null,
    pins: gate.pins,
  };
}
