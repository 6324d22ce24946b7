import { expect, it } from 'vitest';
import { benchPolicies } from '../../bench/policies.ts';
import { connection, Maker, networks, prefixesOf, signatures } from '../../bench/policy-tables.ts';
import { hasAddress } from '../../src/policy/prefix-set.ts';
import { readSignatures } from '../../src/policy/suricata/read.ts';
import { SignatureTable } from '../../src/policy/suricata/table.ts';

const io = { progress() {}, stop: new AbortController().signal };

it('policies: a row for each set and each number of signatures', async () => {
  const sizes = {
    prefixes: 500,
    domains: 50,
    signatures: [3, 30],
    decisions: 10,
    caches: 1 << 16,
    compiled: 10,
    packets: 100,
  };
  const { tables, notes } = await benchPolicies(1, io, sizes);
  const [sets, signed, packets, memory] = tables;
  expect(sets.rows.map(({ name }) => name)).toHaveLength(9);
  expect(signed.rows.map(({ name }) => name)).toEqual(['3 signatures', '30 signatures']);
  expect(packets.rows.map(({ name }) => String(name).split(/:| /)[0])).toEqual(['settled', 'waits', 'waits']);
  expect(memory.rows).toHaveLength(4);
  expect(notes.join(' ')).toMatch(/ns at p99 .* kept/);
});

it('what is made for it is what it says: networks with addresses in them, signatures that match', async () => {
  const nets = networks(200, new Maker(1));
  const table = prefixesOf(nets);
  expect(new Set(nets.map(({ bytes }) => bytes.length))).toEqual(new Set([4, 16]));
  for (const { bytes } of nets) expect(hasAddress(table, bytes, 0, bytes.length as 4 | 16)).toBe(true);

  const { text, names } = signatures(50, new Maker(2));
  const { signatures: read, refused } = await readSignatures(text);
  expect(refused).toEqual([]);
  const all = new SignatureTable(read);
  for (const name of names)
    expect(all.matches(connection(Uint8Array.of(192, 0, 2, 1), name)), name).toBe(true);
});
