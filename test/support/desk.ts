import { mkdtempSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { FleetStatus } from '../../src/gate/daemon-fleet.ts';
import { eventually, type UpGate } from '../gate/daemon-support.ts';
import { sluice } from './command.ts';

/** Seconds: a source that was away is asked again after up to 30. */
export const LONGEST = 240;

/** Somebody with a key who signs rules, and a place for their files. */
export class Desk {
  readonly directory: string;
  readonly rules: string;
  readonly store: string;
  readonly key: string;

  private constructor(directory: string) {
    this.directory = mkdtempSync(join(directory, 'desk-'));
    this.rules = join(this.directory, 'rules.jsonl');
    this.store = join(this.directory, 'state', 'store-IFACE.json');
    this.key = join(this.directory, 'desk');
  }

  /** @param directory where its own is made */
  static async open(directory: string): Promise<Desk> {
    const desk = new Desk(directory);
    expect((await sluice('rule', 'keygen', desk.key)).code).toBe(0);
    return desk;
  }

  async sign(id: string, expr: string, ...more: string[]): Promise<string> {
    const named = ['--id', id, '--ttl', '1h', '--key', `${this.key}.key`];
    const { code, stdout, stderr } = await sluice('rule', 'sign', expr, ...named, ...more);
    if (code !== 0) throw new Error(stderr);
    return stdout;
  }

  async withdraw(id: string): Promise<string> {
    const { stdout } = await sluice('rule', 'withdraw', id, '--key', `${this.key}.key`);
    return stdout;
  }

  /** Of who follows it. */
  options(source: string): string[] {
    const trust = ['--trust', `${this.key}.pub`];
    return ['--rules-from', source, ...trust, '--rules-store', this.store, '--rules-every', '0.2s'];
  }

  /** A server that comes back may not take it at once. @param to URL and options of a server of NATS */
  async publish(
    lines: readonly string[],
    ...to: string[]
  ): Promise<{ published: string[]; older: string[] }> {
    writeFileSync(this.rules, lines.join(''));
    return await eventually(
      async () => {
        const { code, stdout } = await sluice('rule', 'publish', this.rules, '--json', '--to', ...to);
        return code === 0 ? (JSON.parse(stdout) as { published: string[]; older: string[] }) : undefined;
      },
      'it could not be published',
      LONGEST,
    );
  }
}

/** What a gate says of the rules that it follows, once that is so. */
export function fleetStatus(
  gate: UpGate,
  good: (status: FleetStatus) => boolean,
  what: string,
): Promise<FleetStatus> {
  return eventually(
    async () => {
      const { fleet } = await gate.status();
      return fleet !== null && good(fleet) ? fleet : undefined;
    },
    what,
    LONGEST,
  );
}
