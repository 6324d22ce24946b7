/** The XDP gate of an interface: load, attach, change entries, read the books. */
export { GateClient } from './client.ts';
export { Gate } from './gate.ts';
export type { GateOptions } from './gate-options.ts';
export { bpfObjectPath } from './kind.ts';
export { addLedger, type Count, emptyLedger, type Ledger } from './ledger.ts';
export type { Joined, Leftovers, Orphan } from './leftovers.ts';
export { NOTE_BYTES } from './side.ts';
