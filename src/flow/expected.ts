import { ipBytes } from '../packet/address.ts';
import type { Announced } from './services/service.ts';

/** Connections that are announced and have not come. */
const MAX_EXPECTED = 4096;
/** Seconds that they are waited for (Zeek: schedule_analyzer in base/protocols/ftp). */
const PATIENCE = 300;

interface Expected {
  service: string;
  address: Uint8Array;
  port: number;
  until: number;
}

function hashOf(u8: Uint8Array, at: number, bytes: 4 | 16, port: number): number {
  let hash = port;
  for (let i = 0; i < bytes; i++) hash = Math.imul(hash ^ u8[at + i], 0x01000193);
  return hash;
}

/** TCP connections that others have announced (FTP's data connections), by the address and port that wait for them. */
export class ExpectedConnections {
  readonly #entries = new Map<number, Expected>();

  get size(): number {
    return this.#entries.size;
  }

  /** `own`: the address of the side that waits, for announcements without one. Ignores what is no address. */
  add(announced: Announced, own: Uint8Array, now: number): void {
    const address = announced.host === undefined ? own : ipBytes(announced.host);
    if (address === undefined) return;
    const { service, port } = announced;
    if (this.#entries.size >= MAX_EXPECTED) this.#forget(now);
    const hash = hashOf(address, 0, address.length as 4 | 16, port);
    this.#entries.set(hash, { service, address, port, until: now + PATIENCE });
  }

  /** The service of a connection to this address and port; each announcement is for one connection. */
  take(u8: Uint8Array, at: number, bytes: 4 | 16, port: number, now: number): string | undefined {
    const hash = hashOf(u8, at, bytes, port);
    const found = this.#entries.get(hash);
    if (found === undefined || found.port !== port || found.address.length !== bytes) return undefined;
    for (let i = 0; i < bytes; i++) if (found.address[i] !== u8[at + i]) return undefined;
    this.#entries.delete(hash);
    return found.until >= now ? found.service : undefined;
  }

  /** Makes room: first what is too old, then what has waited for longest. */
  #forget(now: number): void {
    for (const [hash, { until }] of this.#entries) {
      if (until >= now) break;
      this.#entries.delete(hash);
    }
    for (const hash of this.#entries.keys()) {
      if (this.#entries.size < MAX_EXPECTED) break;
      this.#entries.delete(hash);
    }
  }
}
