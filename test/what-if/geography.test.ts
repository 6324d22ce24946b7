import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { loadGeoFiles, MmdbGeography } from '../../src/sensor/geography.ts';
import { address } from '../policy/facts.ts';

type Value = string | number | bigint | readonly Value[] | { readonly [key: string]: Value };

/** MaxMind DB File Format 2.0: what of it such a database needs. */
function encoded(value: Value): number[] {
  if (typeof value === 'string') return [(2 << 5) | value.length, ...Buffer.from(value)];
  if (typeof value === 'number')
    return [(6 << 5) | 4, value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
  if (typeof value === 'bigint') return [8, 2, 0, 0, 0, 0, 0, 0, 0, Number(value)];
  if (Array.isArray(value)) return [value.length, 4, ...(value as readonly Value[]).flatMap(encoded)];
  const entries = Object.entries(value as Record<string, Value>);
  return [
    (7 << 5) | entries.length,
    ...entries.flatMap(([key, inner]) => [...encoded(key), ...encoded(inner)]),
  ];
}

function database(networks: Record<string, Value>): Buffer {
  const nodes: (number | undefined)[][] = [[undefined, undefined]];
  const leaves: { node: number; bit: number; at: number }[] = [];
  const data: number[] = [];
  for (const [network, value] of Object.entries(networks)) {
    const [host, length] = network.split('/');
    const bits = host
      .split('.')
      .map((byte) => Number(byte).toString(2).padStart(8, '0'))
      .join('');
    let node = 0;
    for (let i = 0; i < Number(length) - 1; i++) {
      const bit = Number(bits[i]);
      let next = nodes[node][bit];
      if (next === undefined) {
        next = nodes.push([undefined, undefined]) - 1;
        nodes[node][bit] = next;
      }
      node = next;
    }
    leaves.push({ node, bit: Number(bits[Number(length) - 1]), at: data.length });
    data.push(...encoded(value));
  }
  const records = nodes.map((pair) => pair.map((next) => next ?? nodes.length));
  for (const { node, bit, at } of leaves) records[node][bit] = nodes.length + 16 + at;
  const tree = records.flat().flatMap((n) => [n >>> 16, (n >>> 8) & 255, n & 255]);
  const metadata = encoded({
    binary_format_major_version: 2,
    binary_format_minor_version: 0,
    build_epoch: 1n,
    database_type: 'Test',
    languages: ['en'],
    description: { en: 'test' },
    ip_version: 4,
    node_count: nodes.length,
    record_size: 24,
  });
  return Buffer.from([
    ...tree,
    ...Array.from({ length: 16 }, () => 0),
    ...data,
    0xab,
    0xcd,
    0xef,
    ...Buffer.from('MaxMind.com'),
    ...metadata,
  ]);
}

const directory = mkdtempSync(join(tmpdir(), 'sluice-test-'));
afterAll(() => rmSync(directory, { recursive: true }));
function file(name: string, bytes: Uint8Array): string {
  const path = join(directory, name);
  writeFileSync(path, bytes);
  return path;
}

test('countries of one database, systems of another, of whatever form', async () => {
  const countries = file(
    'country.mmdb',
    database({
      '192.0.2.0/24': { country: { iso_code: 'DE' } },
      '10.0.0.0/8': { country_code: 'FR', asn: 'AS64500' },
    }),
  );
  const systems = file('asn.mmdb', database({ '192.0.2.0/25': { autonomous_system_number: 64_496 } }));
  const geography = new MmdbGeography(await loadGeoFiles([countries, systems]));
  const of = (text: string) => [geography.country(address(text)), geography.asn(address(text))];
  expect(of('192.0.2.7')).toEqual(['DE', 64_496]);
  expect(of('192.0.2.200')).toEqual(['DE', 0]);
  expect(of('10.1.2.3')).toEqual(['FR', 64_500]);
  expect(of('198.51.100.1')).toEqual([undefined, 0]);
  expect(of('2001:db8::1')).toEqual([undefined, 0]);
});

test('what is no database is refused', async () => {
  await expect(loadGeoFiles([file('none.mmdb', Buffer.from('nothing of the kind'))])).rejects.toMatchObject({
    code: 'FILE_FORMAT',
  });
  await expect(loadGeoFiles([join(directory, 'not-there')])).rejects.toMatchObject({ code: 'FILE' });
});
