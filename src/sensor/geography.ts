import { readFile } from 'node:fs/promises';
import { type CountryResponse, Reader } from 'mmdb-lib';
import { SluiceError } from '../base/errors.ts';
import { fileError } from '../base/file-error.ts';
import type { FlowAddress } from '../flow/types.ts';
import { ipText } from '../packet/address.ts';
import type { Geography } from './facts.ts';

/** Databases in memory that workers share. */
export type GeoFiles = readonly SharedArrayBuffer[];

/** Bytes of a database. */
const MAX_FILE = 1024 ** 3;
/** Addresses whose answer is remembered. */
const MOST_KNOWN = 65_536;

type Entry = Partial<CountryResponse> & {
  autonomous_system_number?: unknown;
  asn?: unknown;
  country_code?: unknown;
};

/**
 * Reads databases in MaxMind's format (MMDB), of countries, of autonomous systems, or of both.
 * @throws SluiceError FILE, FILE_FORMAT
 */
export async function loadGeoFiles(paths: readonly string[]): Promise<GeoFiles> {
  const files: SharedArrayBuffer[] = [];
  for (const path of paths) {
    let bytes: Buffer;
    try {
      bytes = await readFile(path);
    } catch (cause) {
      throw fileError(path, cause);
    }
    if (bytes.length > MAX_FILE)
      throw new SluiceError('FILE_FORMAT', `${path} is larger than ${MAX_FILE} bytes`);
    const memory = new SharedArrayBuffer(bytes.length);
    new Uint8Array(memory).set(bytes);
    try {
      new Reader(Buffer.from(memory)).get('192.0.2.1');
    } catch (cause) {
      throw new SluiceError('FILE_FORMAT', `${path} is no database in MaxMind's format`, {
        cause,
        help: 'it has to be an MMDB file, such as GeoLite2-Country.mmdb or GeoLite2-ASN.mmdb',
      });
    }
    files.push(memory);
  }
  return files;
}

interface Known {
  country: string | undefined;
  asn: number;
}

/** What databases say about addresses; the first that knows something wins. Looked up once for an address, as far as there is room. */
export class MmdbGeography implements Geography {
  readonly #readers: readonly Reader<CountryResponse>[];
  readonly #known = new Map<string, Known>();

  constructor(files: GeoFiles) {
    this.#readers = files.map((memory) => new Reader<CountryResponse>(Buffer.from(memory)));
  }

  country(address: FlowAddress): string | undefined {
    return this.#of(address).country;
  }

  asn(address: FlowAddress): number {
    return this.#of(address).asn;
  }

  #of({ u8, at, bytes }: FlowAddress): Known {
    const text = ipText(u8, at, bytes);
    let known = this.#known.get(text);
    if (known !== undefined) return known;
    known = { country: undefined, asn: 0 };
    for (const reader of this.#readers) {
      const entry = look(reader, text);
      known.country ??= countryOf(entry);
      if (known.asn === 0) known.asn = asnOf(entry);
    }
    if (this.#known.size >= MOST_KNOWN) this.#known.clear();
    this.#known.set(text, known);
    return known;
  }
}

/** A damaged database knows nothing. */
function look(reader: Reader<CountryResponse>, text: string): Entry | undefined {
  try {
    return reader.get(text) ?? undefined;
  } catch {
    return undefined;
  }
}

function countryOf(entry: Entry | undefined): string | undefined {
  const code = entry?.country?.iso_code ?? entry?.registered_country?.iso_code ?? entry?.country_code;
  return typeof code === 'string' ? code : undefined;
}

/** MaxMind writes a number, others text with AS in front. */
function asnOf(entry: Entry | undefined): number {
  const asn = entry?.autonomous_system_number ?? entry?.asn;
  const number = typeof asn === 'string' ? Number(asn.replace(/^AS/i, '')) : asn;
  return typeof number === 'number' && Number.isInteger(number) && number > 0 ? number : 0;
}
