import type { LogName } from './target.ts';

/**
 * The fields of a log, declared once: JSON and Zeek's TSV are both written from here, so that they cannot differ. A
 * field has its Zeek name, its Zeek type and how to get it from a record; undefined is unset.
 */
export type Field<R> = { readonly name: string; readonly type: string } & (
  | {
      readonly kind: typeof Kind.time | typeof Kind.interval;
      readonly get: (record: R) => number | undefined;
    }
  | { readonly kind: typeof Kind.number; readonly get: (record: R) => number | undefined }
  | { readonly kind: typeof Kind.text; readonly get: (record: R) => string | undefined }
  | { readonly kind: typeof Kind.bool; readonly get: (record: R) => boolean | undefined }
  | { readonly kind: typeof Kind.texts; readonly get: (record: R) => readonly string[] | undefined }
);

/** How the value of a field is written. */
export const Kind = { time: 0, interval: 1, number: 2, text: 3, bool: 4, texts: 5 } as const;

/** One log: its name and its columns in Zeek's order. */
export interface LogSchema<R> {
  readonly log: LogName;
  readonly fields: readonly Field<R>[];
}

type Get<R, T> = (record: R) => T | undefined;

/** Seconds since the epoch. */
export const time = <R>(name: string, get: Get<R, number>): Field<R> => ({
  name,
  type: 'time',
  kind: Kind.time,
  get,
});

/** Seconds. */
export const interval = <R>(name: string, get: Get<R, number>): Field<R> => ({
  name,
  type: 'interval',
  kind: Kind.interval,
  get,
});

export const number = <R>(
  name: string,
  type: 'count' | 'int' | 'port' | 'double',
  get: Get<R, number>,
): Field<R> => ({
  name,
  type,
  kind: Kind.number,
  get,
});

export const count = <R>(name: string, get: Get<R, number>): Field<R> => number(name, 'count', get);

export const text = <R>(
  name: string,
  get: Get<R, string>,
  type: 'string' | 'addr' | 'enum' = 'string',
): Field<R> => ({
  name,
  type,
  kind: Kind.text,
  get,
});

export const bool = <R>(name: string, get: Get<R, boolean>): Field<R> => ({
  name,
  type: 'bool',
  kind: Kind.bool,
  get,
});

export const texts = <R>(
  name: string,
  type: 'set[string]' | 'vector[string]',
  get: Get<R, readonly string[]>,
): Field<R> => ({ name, type, kind: Kind.texts, get });

/** What a record knows of its connection. */
export interface Connected {
  uid: string | undefined;
  origHost: string;
  origPort: number;
  respHost: string;
  respPort: number;
}

/** Identity and endpoints (Zeek's conn_id), with which most logs begin behind the time. */
export const connectionFields: readonly Field<Connected>[] = [
  text('uid', (r) => r.uid),
  text('id.orig_h', (r) => r.origHost, 'addr'),
  number('id.orig_p', 'port', (r) => r.origPort),
  text('id.resp_h', (r) => r.respHost, 'addr'),
  number('id.resp_p', 'port', (r) => r.respPort),
];

/** By which tools join their records (src/packet/community-id.ts); the last column of each log that tells of connections. */
export const communityIdField: Field<{ communityId?: string | undefined }> = text(
  'community_id',
  (r) => r.communityId,
);

/** Fields of what is a part of the record. */
export function within<R, P>(fields: readonly Field<P>[], part: (record: R) => P): Field<R>[] {
  return fields.map((field) => ({ ...field, get: (record: R) => field.get(part(record)) }) as Field<R>);
}
