import { type FileHandle, open } from 'node:fs/promises';
import type { FlowName } from '../gate/flow-key.ts';

const STEP = 256 * 1024;
const HEAD = 16 * 1024;
/** Of a log, from its end. */
const MOST_BYTES = 8 * 2 ** 20;
const MOST_RECORDS = 20;
/** No line of ours is longer; a file that has such is not searched on. */
const LONGEST_LINE = 2 ** 20;

export interface TailSearch {
  /** Newest last. */
  records: Record<string, unknown>[];
  /** Bytes that were looked through, and whether that is the whole file. */
  bytes: number;
  whole: boolean;
}

/** Lines about one flow at the end of a log, JSON or Zeek's format; undefined: there is no such file. Bounded in bytes and records. */
export async function searchTail(
  path: string,
  flow: FlowName,
  columns = NO_COLUMNS,
  mostBytes = MOST_BYTES,
): Promise<TailSearch | undefined> {
  let file: FileHandle;
  try {
    file = await open(path, 'r');
  } catch {
    return undefined;
  }
  try {
    const { size } = await file.stat();
    const from = Math.max(0, size - mostBytes);
    const fields = await fieldsOf(file);
    const found: Record<string, unknown>[] = [];
    const buffer = Buffer.alloc(STEP);
    let rest = '';
    // The first line of a part is cut.
    let skip = from > 0;
    for (let at = from; at < size; ) {
      const { bytesRead } = await file.read(buffer, 0, Math.min(STEP, size - at), at);
      if (bytesRead === 0) break;
      at += bytesRead;
      const lines = (rest + buffer.toString('latin1', 0, bytesRead)).split('\n');
      rest = lines.pop() ?? '';
      if (rest.length > LONGEST_LINE) break;
      for (const line of lines) {
        if (!skip && line.includes(flow.a.addr) && line.includes(flow.b.addr))
          take(found, line, fields, flow, columns);
        skip = false;
      }
    }
    return { records: found, bytes: size - from, whole: from === 0 };
  } catch {
    return undefined;
  } finally {
    await file.close();
  }
}

function take(
  found: Record<string, unknown>[],
  line: string,
  fields: readonly string[] | undefined,
  flow: FlowName,
  columns: Columns,
): void {
  const record = recordOf(line, fields);
  if (record === undefined || !isOf(record, flow, columns)) return;
  found.push(record);
  if (found.length > MOST_RECORDS) found.shift();
}

/** Of Zeek's format: the names of its columns, which stand at the head of the file. */
async function fieldsOf(file: FileHandle): Promise<string[] | undefined> {
  const head = Buffer.alloc(HEAD);
  const { bytesRead } = await file.read(head, 0, HEAD, 0);
  const line = /^#fields\t(.*)$/m.exec(head.toString('latin1', 0, bytesRead));
  return line?.[1]?.split('\t');
}

function recordOf(line: string, fields: readonly string[] | undefined): Record<string, unknown> | undefined {
  if (fields !== undefined) {
    if (line.startsWith('#')) return undefined;
    const values = line.split('\t');
    const record: Record<string, unknown> = {};
    fields.forEach((name, i) => {
      const value = values[i];
      if (value !== undefined && value !== '-') record[name] = value;
    });
    return record;
  }
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}

/** Whether a log has ids of VLANs and tunnels, so that a record without one was in none. */
interface Columns {
  vlan: boolean;
  tunnel: boolean;
}
const NO_COLUMNS: Columns = { vlan: false, tunnel: false };

/** Ids of VLANs and tunnels, as logs name them. */
const TAGS = {
  vlan: 'vlan',
  innerVlan: 'inner_vlan',
  vni: 'id.ctx.vxlan_vni',
  geneveVni: 'id.ctx.geneve_vni',
} as const;

/** An id that was asked for is not another one, nor none where the log has them. */
function hasTags(record: Record<string, unknown>, flow: FlowName, columns: Columns): boolean {
  return Object.entries(TAGS).every(([name, field]) => {
    const wanted = flow[name as keyof typeof TAGS] ?? 0;
    const found = record[field];
    if (wanted === 0) return true;
    if (found === undefined) return !(field.endsWith('vlan') ? columns.vlan : columns.tunnel);
    return Number(found) === wanted;
  });
}

/** One way or the other. What has no ports is compared by its addresses. */
function isOf(record: Record<string, unknown>, flow: FlowName, columns: Columns): boolean {
  const { proto, a, b } = flow;
  if (!hasTags(record, flow, columns)) return false;
  const ends = [record['id.orig_h'], record['id.orig_p'], record['id.resp_h'], record['id.resp_p']].map(
    String,
  );
  const [orig, origPort, resp, respPort] = ends;
  const isPorted = proto === 'tcp' || proto === 'udp';
  if (isPorted && record['proto'] !== proto) return false;
  const is = (one: FlowName['a'], other: FlowName['a']): boolean =>
    orig === one.addr &&
    resp === other.addr &&
    (!isPorted || (origPort === String(one.port) && respPort === String(other.port)));
  return is(a, b) || is(b, a);
}
