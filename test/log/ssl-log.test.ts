import { expect, test } from 'vitest';
import type { ConnRecord, TlsInfo } from '../../src/flow/types.ts';
import { jsonWriter, lineOf } from '../../src/log/json-format.ts';
import { type SslLogRecord, sslSchema } from '../../src/log/ssl-log.ts';
import { cipherName, groupName, versionName } from '../../src/log/tls-names.ts';

const conn = {
  ts: 100,
  uid: 'CabcdefghijklmnopX',
  origHost: '10.0.0.1',
  origPort: 40_000,
  respHost: '2001:db8::1',
  respPort: 443,
} as ConnRecord;

const tls: TlsInfo = {
  ts: 101.5,
  version: 0x0303,
  cipher: 0xc02f,
  curve: 29,
  serverName: 'www.example.org',
  alpn: 'h2',
  established: true,
  resumed: false,
  history: 'CsxknGIi',
  lastAlert: -1,
  ja3: 'a'.repeat(32),
  ja3s: 'b'.repeat(32),
  ja4: 't12d0000h2_000000000000_000000000000',
};

const write = jsonWriter(sslSchema);
const line = (record: SslLogRecord) => JSON.parse(lineOf(write, record)) as Record<string, unknown>;

test('a handshake with the names of Zeek', () => {
  expect(line({ conn, tls })).toEqual({
    ts: 101.5,
    uid: 'CabcdefghijklmnopX',
    'id.orig_h': '10.0.0.1',
    'id.orig_p': 40_000,
    'id.resp_h': '2001:db8::1',
    'id.resp_p': 443,
    version: 'TLSv12',
    cipher: 'TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256',
    curve: 'x25519',
    server_name: 'www.example.org',
    resumed: false,
    next_protocol: 'h2',
    established: true,
    ssl_history: 'CsxknGIi',
    ja3: 'a'.repeat(32),
    ja3s: 'b'.repeat(32),
    ja4: 't12d0000h2_000000000000_000000000000',
  });
});

test('without an answer of the server there is no version, cipher or curve', () => {
  const fields = line({ conn, tls: { ...tls, ts: 0, version: 0, cipher: 0, ja3s: undefined } });
  expect(fields).not.toHaveProperty('version');
  expect(fields).not.toHaveProperty('cipher');
  expect(fields).not.toHaveProperty('curve');
  expect(fields).not.toHaveProperty('ja3s');
  expect(fields['ts']).toBe(100);
});

test('a key exchange without a group has no curve, whatever its first bytes looked like', () => {
  expect(line({ conn, tls: { ...tls, cipher: 0x009c } })).not.toHaveProperty('curve');
  expect(line({ conn, tls: { ...tls, version: 0x0304, cipher: 0x1301, curve: 0x11ec } })['curve']).toBe(
    'X25519MLKEM768',
  );
});

test('the last alert by its name', () => {
  expect(line({ conn, tls })).not.toHaveProperty('last_alert');
  const alerts = [0, 40, 200].map((lastAlert) => line({ conn, tls: { ...tls, lastAlert } })['last_alert']);
  expect(alerts).toEqual(['close_notify', 'handshake_failure', 'unknown-200']);
});

test('names from the registry, and numbers that are not in it', () => {
  expect([0x000a, 0x1301, 0xcca9, 0xc0ac].map(cipherName)).toEqual([
    'TLS_RSA_WITH_3DES_EDE_CBC_SHA',
    'TLS_AES_128_GCM_SHA256',
    'TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256',
    'TLS_ECDHE_ECDSA_WITH_AES_128_CCM',
  ]);
  expect(cipherName(0xabcd)).toBe('unknown-43981');
  expect([23, 256, 9999].map(groupName)).toEqual(['secp256r1', 'ffdhe2048', 'unknown-9999']);
  expect([0x0300, 0x0304, 0xfefd, 0xfefc, 7].map(versionName)).toEqual([
    'SSLv3',
    'TLSv13',
    'DTLSv12',
    'DTLSv13',
    'unknown-7',
  ]);
});
