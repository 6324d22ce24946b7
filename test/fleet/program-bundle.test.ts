import { describe, expect, test } from 'vitest';
import { generateKeys, keysById, readSigningKey, readTrustedKeys } from '../../src/fleet/keys.ts';
import { isBundle, readBundle, signBundle, verifyBundle } from '../../src/fleet/program-bundle.ts';
import { signStatement, verifyStatement } from '../../src/fleet/statement.ts';
import { compilerAbi, compileSet } from '../../src/rules/taken/program-set.ts';

const NOW = 1_800_000_000;
const FRAME_LENGTH = 40;
const abi = compilerAbi(FRAME_LENGTH);
const pair = generateKeys('desk');
const key = readSigningKey(pair.privatePem, 'desk.key');
const keys = keysById(readTrustedKeys(pair.publicLine, 'trust'));
const stranger = readSigningKey(generateKeys('mallory').privatePem, 'mallory.key');
const setOf = (expr: string) =>
  compileSet([{ id: 'fleet-a', revision: 1, lang: 'tcpdump', expr }], FRAME_LENGTH);
const bytes = setOf('udp dst port 53');
const about = { revision: 7, author: 'desk', issued: NOW, abi };
const line = signBundle(bytes, about, key);
const said = (text: string, now = NOW): string => {
  const result = verifyBundle(text, keys, now, FRAME_LENGTH);
  return 'refused' in result ? result.refused : 'good';
};

describe('signed programs', () => {
  test('are what was signed', () => {
    const bundle = verifyBundle(line, keys, NOW, FRAME_LENGTH);
    if ('refused' in bundle) throw new Error(bundle.why);
    expect(bundle).toMatchObject({ keyName: 'desk', signed: { revision: 7, abi } });
    expect(Buffer.compare(bundle.bytes.program, bytes.program)).toBe(0);
    expect([...bundle.set.rules.keys()]).toEqual(['fleet-a']);
  });

  test('no byte of the line can be changed: refused, or the same programs', () => {
    let refused = 0;
    for (let at = 0; at < line.length; at += 2) {
      const other = line[at] === 'A' ? 'B' : 'A';
      const result = verifyBundle(line.slice(0, at) + other + line.slice(at + 1), keys, NOW, FRAME_LENGTH);
      if ('refused' in result) refused++;
      else expect(Buffer.compare(result.bytes.program, bytes.program)).toBe(0);
    }
    expect(refused).toBeGreaterThan(line.length / 2 - 20);
    for (const cut of [0, 9, 10, 100, line.length - 1]) expect(said(line.slice(0, cut))).toBe('malformed');
  });

  test('of somebody else, for another version, from the future, with other programs', () => {
    expect(said(signBundle(bytes, about, stranger))).toBe('unknown key');
    expect(said(line.replace(/"key":"[0-9a-f]{16}"/, `"key":"${stranger.id}"`))).toBe('unknown key');
    expect(said(signBundle(bytes, about, stranger).replace(stranger.id, key.id))).toBe('forged');
    expect(said(signBundle(bytes, { ...about, abi: '1-other' }, key))).toBe('other version');
    expect(verifyBundle(line, keys, NOW, FRAME_LENGTH + 4)).toMatchObject({ refused: 'other version' });
    expect(said(line, NOW - 1000)).toBe('from the future');
    const other = readBundle(signBundle(setOf('udp dst port 54'), about, key));
    for (const member of ['code', 'constants'] as const)
      expect(said(line.replace(readBundle(line)?.[member] ?? '', other?.[member] ?? ''))).toBe('forged');
    const cut = { ...bytes, program: bytes.program.slice(8) };
    expect(said(signBundle(cut, about, key))).toBe('invalid');
    expect(said(line.replace(/"code":"[^"]*"/, '"code":"AAAA"'))).toBe('malformed');
  });

  test('are no rules, and rules are no programs', () => {
    const rule = signStatement(
      {
        version: 1,
        id: 'a',
        revision: 1,
        author: 'desk',
        issued: NOW,
        expires: NOW + 60,
        rule: { expr: 'udp', action: { kind: 'drop' } },
      },
      key,
    );
    expect(isBundle(rule)).toBe(false);
    expect(said(rule)).toBe('malformed');
    expect(verifyStatement(line, keys, NOW)).toMatchObject({ refused: 'malformed' });
    // A signature for the one is none for the other.
    const { signature } = JSON.parse(rule) as { signature: string };
    expect(said(line.replace(readBundle(line)?.signature ?? '', signature))).toBe('forged');
  });
});
