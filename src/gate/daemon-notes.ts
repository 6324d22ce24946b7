import { z } from 'zod';
import { NOTE_BYTES, type SideNotes } from './side.ts';

/** What a daemon knows of an entry that is not in the entry. */
export interface ShuntNote {
  trigger: string;
  /** Seconds since the epoch. */
  since: number | undefined;
  /** TCP: sequence ends when it was added, low side first. */
  start: readonly [number, number] | undefined;
}

/** Tells the notes of daemons from those of others. */
const KIND = 0x4453_0001;
const LENGTH_AT = 4;
const TEXT_AT = 8;

const schema = z.object({
  trigger: z.string(),
  since: z.number().optional(),
  start: z.tuple([z.number(), z.number()]).optional(),
});

const note = new Uint8Array(NOTE_BYTES);
const view = new DataView(note.buffer);

/** Notes it for the daemon that comes after this one; what finds no room is not known to that one. */
export function writeShuntNote(notes: SideNotes, family: 4 | 6, key: Uint8Array, about: ShuntNote): void {
  const { trigger, since, start } = about;
  const text = Buffer.from(JSON.stringify({ trigger, since, start } satisfies ShuntNote));
  if (text.length > NOTE_BYTES - TEXT_AT) return;
  note.fill(0);
  view.setUint32(0, KIND, true);
  view.setUint32(LENGTH_AT, text.length, true);
  note.set(text, TEXT_AT);
  notes.write(family, key, note);
}

/** What an earlier daemon has noted; undefined when there is nothing, or nothing that can be read. */
export function readShuntNote(notes: SideNotes, family: 4 | 6, key: Uint8Array): ShuntNote | undefined {
  if (!notes.read(family, key, note) || view.getUint32(0, true) !== KIND) return undefined;
  try {
    const end = TEXT_AT + view.getUint32(LENGTH_AT, true);
    const { trigger, since, start } = schema.parse(
      JSON.parse(Buffer.from(note.subarray(TEXT_AT, end)).toString()),
    );
    return { trigger, since, start };
  } catch {
    return undefined;
  }
}
