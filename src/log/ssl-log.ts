import type { ConnRecord, TlsInfo } from '../flow/types.ts';
import { bool, communityIdField, connectionFields, type LogSchema, text, time, within } from './schema.ts';
import { alertName, cipherName, groupName, versionName } from './tls-names.ts';

/** A TLS, DTLS or QUIC handshake with the connection that it is part of. */
export interface SslLogRecord {
  conn: ConnRecord & { communityId?: string | undefined };
  tls: TlsInfo;
}

/** Key exchanges whose group a handshake may name. */
const WITH_GROUP = /^TLS_(EC|DHE|AES_|CHACHA20_)/;

/** What has not come to a ServerHello has neither version nor cipher. */
const answered = (r: SslLogRecord): boolean => r.tls.version !== 0;

function curve({ tls }: SslLogRecord): string | undefined {
  if (tls.curve === 0 || tls.version === 0) return undefined;
  return WITH_GROUP.test(cipherName(tls.cipher)) ? groupName(tls.curve) : undefined;
}

/** ssl.log: names, order and types of Zeek's base/protocols/ssl/main.zeek; fingerprints as its ja3 and ja4 packages. */
export const sslSchema: LogSchema<SslLogRecord> = {
  log: 'ssl',
  fields: [
    time('ts', (r) => (r.tls.ts > 0 ? r.tls.ts : r.conn.ts)),
    ...within(connectionFields, (r: SslLogRecord) => r.conn),
    text('version', (r) => (answered(r) ? versionName(r.tls.version) : undefined)),
    text('cipher', (r) => (answered(r) ? cipherName(r.tls.cipher) : undefined)),
    text('curve', curve),
    text('server_name', (r) => r.tls.serverName),
    bool('resumed', (r) => r.tls.resumed),
    text('last_alert', (r) => (r.tls.lastAlert < 0 ? undefined : alertName(r.tls.lastAlert))),
    text('next_protocol', (r) => r.tls.alpn),
    bool('established', (r) => r.tls.established),
    text('ssl_history', (r) => r.tls.history),
    text('ja3', (r) => r.tls.ja3),
    text('ja3s', (r) => r.tls.ja3s),
    text('ja4', (r) => r.tls.ja4),
  ],
};

/** The same with a community id. */
export const sslSchemaWithId: LogSchema<SslLogRecord> = {
  ...sslSchema,
  fields: [...sslSchema.fields, ...within([communityIdField], (r: SslLogRecord) => r.conn)],
};
