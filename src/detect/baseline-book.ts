import type { KV } from '@nats-io/kv';
import type { Lifeline } from './connected.ts';

const keyOf = (partition: string): string => `usual.${partition}`;

/** What is usual in each partition, in a bucket of the fleet, for whoever holds the partition next. */
export class BaselineBook {
  readonly #warn: (text: string) => void;
  readonly #writing = new Set<string>();
  #bucket: { readonly line: Lifeline; readonly kv: KV } | undefined;

  constructor(warn: (text: string) => void) {
    this.#warn = warn;
  }

  attach(line: Lifeline, kv: KV): void {
    this.#bucket = { line, kv };
  }

  /** What cannot be told now is not told: there is more in some seconds. */
  put(partition: string, text: string): void {
    const bucket = this.#bucket;
    if (bucket === undefined || bucket.line.ended || this.#writing.has(partition)) return;
    this.#writing.add(partition);
    bucket.line
      .until(bucket.kv.put(keyOf(partition), text))
      .catch((error: Error) => this.#warn(`what is usual cannot be handed on: ${error.message}`))
      .finally(() => this.#writing.delete(partition));
  }

  /** As text, whatever it is; undefined: nobody has told. */
  async of(partition: string): Promise<string | undefined> {
    try {
      return (await this.#bucket?.kv.get(keyOf(partition)))?.string();
    } catch {
      return undefined;
    }
  }
}
