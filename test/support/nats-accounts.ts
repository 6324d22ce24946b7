import { createHash } from 'node:crypto';
import { nkeys } from '@nats-io/transport-node';

type KeyPair = ReturnType<typeof nkeys.createUser>;

const base64url = (text: string | Uint8Array): string => Buffer.from(text).toString('base64url');
const textOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString();

/** A JWT of NATS (ADR-14 of nats-architecture-and-design), version 2. */
function jwtOf(signer: KeyPair, sub: string, name: string, nats: object, exp?: number): string {
  const iat = Math.floor(Date.now() / 1000);
  const claims = { iat, iss: signer.getPublicKey(), sub, name, nats: { version: 2, ...nats } };
  const jti = createHash('sha256').update(JSON.stringify(claims)).digest('hex');
  const body = { jti, ...claims, ...(exp === undefined ? {} : { exp }) };
  const head = base64url(JSON.stringify({ typ: 'JWT', alg: 'ed25519-nkey' }));
  const signed = `${head}.${base64url(JSON.stringify(body))}`;
  return `${signed}.${base64url(signer.sign(new TextEncoder().encode(signed)))}`;
}

const EVERYTHING = {
  mem_storage: -1,
  disk_storage: -1,
  streams: -1,
  consumer: -1,
  conn: -1,
  subs: -1,
  data: -1,
  payload: -1,
  leaf: -1,
  imports: -1,
  exports: -1,
  wildcards: true,
};

/** An operator with one account for a fleet: no server knows a secret of it. */
export class NatsAccounts {
  readonly #operator = nkeys.createOperator();
  readonly #account = nkeys.createAccount();
  readonly #system = nkeys.createAccount();

  /** For the configuration of the server. */
  get access(): string {
    const operator = jwtOf(this.#operator, this.#operator.getPublicKey(), 'operator', { type: 'operator' });
    const accounts = [this.#account, this.#system].map((account, at) => {
      const limits =
        at === 0
          ? EVERYTHING
          : { conn: -1, subs: -1, data: -1, payload: -1, leaf: -1, imports: -1, exports: -1 };
      const key = account.getPublicKey();
      return `  ${key}: ${jwtOf(this.#operator, key, `account${at}`, { type: 'account', limits })}`;
    });
    return [
      `operator: ${operator}`,
      `system_account: ${this.#system.getPublicKey()}`,
      'resolver: MEMORY',
      `resolver_preload: {\n${accounts.join('\n')}\n}`,
    ].join('\n');
  }

  /** The text of a credentials file. @param seconds until it expires; negative: it has */
  user(name: string, seconds = 3600): string {
    const user = nkeys.createUser();
    const limits = { subs: -1, data: -1, payload: -1 };
    const exp = Math.floor(Date.now() / 1000) + seconds;
    const jwt = jwtOf(this.#account, user.getPublicKey(), name, { type: 'user', ...limits }, exp);
    return [
      '-----BEGIN NATS USER JWT-----',
      jwt,
      '------END NATS USER JWT------',
      '',
      '-----BEGIN USER NKEY SEED-----',
      textOf(user.getSeed()),
      '------END USER NKEY SEED------',
      '',
    ].join('\n');
  }
}
