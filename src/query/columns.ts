import { connSchema } from '../log/conn-log.ts';
import { noticeSchema, shuntSchema } from '../log/other-logs.ts';
import { Kind } from '../log/schema.ts';
import { sslSchemaWithId } from '../log/ssl-log.ts';
import { tunnelSchemaWithId } from '../log/tunnel-log.ts';

/** The type that a field of a log has in a query. */
export type ColumnType = 'TIME' | 'DOUBLE' | 'BIGINT' | 'BOOLEAN' | 'VARCHAR' | 'VARCHAR[]';
export type Columns = ReadonlyMap<string, ColumnType>;

const OF_KIND: Readonly<Record<number, ColumnType>> = {
  [Kind.time]: 'TIME',
  [Kind.interval]: 'DOUBLE',
  [Kind.number]: 'BIGINT',
  [Kind.text]: 'VARCHAR',
  [Kind.bool]: 'BOOLEAN',
  [Kind.texts]: 'VARCHAR[]',
};

interface AnySchema {
  readonly log: string;
  readonly fields: readonly { readonly name: string; readonly type: string; readonly kind: number }[];
}

const columnsOf = ({ fields }: AnySchema): Columns =>
  new Map(fields.map(({ name, type, kind }) => [name, type === 'double' ? 'DOUBLE' : OF_KIND[kind]]));

const EVERYTHING = { shunts: true, vlan: true, vni: true, gwlb: true, communityId: true } as const;

/** Every column that these can have, so that a query over logs without one finds it unset. */
const DECLARED: ReadonlyMap<string, Columns> = new Map(
  [connSchema(EVERYTHING), sslSchemaWithId, tunnelSchemaWithId, shuntSchema, noticeSchema].map(
    (schema: AnySchema) => [schema.log, columnsOf(schema)],
  ),
);

/** Undefined for a log whose columns depend on the run (stats.log): those that are there are taken. */
export function declaredColumns(log: string): Columns | undefined {
  return DECLARED.get(log);
}
