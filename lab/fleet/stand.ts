import { mkdirSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type KV, Kvm } from '@nats-io/kv';
import { NatsDesk } from '../../src/fleet/nats-desk.ts';
import { connectOnce, natsPlace } from '../../src/fleet/nats-place.ts';
import { unshareNetns } from '../../src/kernel/index.ts';
import { run } from '../process.ts';
import { Author, type Signed } from './author.ts';
import type { EdgeGroup, EdgePlace, EdgeState, Landing } from './edge.ts';
import { NatsServer } from './nats-server.ts';
import { Proxy } from './proxy.ts';
import { RealEdge } from './real-edge.ts';
import { SimulatedEdges } from './simulated-edges.ts';
import { until } from './until.ts';

export const SITES = ['fra1', 'ams1', 'nyc1'] as const;
const REAL = 3;
/** Seconds that the clock of the last real edge is ahead: rules of detectors live for 120, and are renewed after 60. */
const REAL_OFFSET = 30;
/** Clocks of some simulated edges: two that do not matter, one for which rules are over early, one that takes nothing new. */
export const OFFSETS = { ahead: 120, behind: -200, farAhead: 7200, farBehind: -900 } as const;
const PER_OFFSET = 2;
/** Simulated edges with a wrong clock. */
export const SKEWED = PER_OFFSET * Object.keys(OFFSETS).length;
/** Seconds; a source that was away is asked again after up to 30. */
export const LONG = 240;

const HOST = '10.77.0.1';

interface Group {
  readonly group: SimulatedEdges;
  readonly skewed: boolean;
}

/**
 * A NATS server, real and simulated edges and a desk, in network namespaces of their own. The calling thread moves into one of
 * them, and stays there.
 */
export class Stand {
  readonly server: NatsServer;
  readonly author: Author;
  readonly proxy: Proxy;
  readonly real: readonly RealEdge[];
  readonly #simulated: readonly Group[];
  /** For logs. */
  readonly directory: string;
  readonly #directories: readonly string[];

  private constructor(
    parts: Pick<Stand, 'server' | 'author' | 'proxy' | 'real'>,
    directories: string[],
    simulated: Group[],
  ) {
    this.server = parts.server;
    this.author = parts.author;
    this.proxy = parts.proxy;
    this.real = parts.real;
    this.directory = directories[0];
    this.#directories = directories;
    this.#simulated = simulated;
  }

  /** @param simulated how many, SKEWED of them with wrong clocks; 0: none @throws SluiceError LAB, PRIVILEGE */
  static async make(simulated: number, gates = REAL): Promise<Stand> {
    unshareNetns();
    const directory = await mkdtemp(join(tmpdir(), `sluice-lab-${process.pid}-`));
    await run(['ip', '-batch', '-'], {
      input: [
        'link set lo up',
        'link add fleet type bridge',
        `address add ${HOST}/24 dev fleet`,
        'link set fleet up',
        '',
      ].join('\n'),
    });
    const server = new NatsServer(directory);
    await server.start();
    const author = new Author(directory);
    const proxy = await Proxy.open(server.port);
    const real: RealEdge[] = [];
    const stand = new Stand({ server, author, proxy, real }, [directory], []);
    try {
      await stand.publish();
      for (let at = 0; at < gates; at++)
        real.push(await stand.#realEdge(at, join(directory, `edge${at + 1}`)));
      await Promise.all(real.map((edge) => edge.start()));
      return await stand.#withSimulated(simulated, directory);
    } catch (error) {
      await stand.close();
      throw error;
    }
  }

  async #realEdge(at: number, directory: string): Promise<RealEdge> {
    mkdirSync(directory);
    const port = `edge${at + 1}`;
    const edge = await RealEdge.make({
      place: {
        name: port,
        site: SITES[at % SITES.length],
        offset: at === REAL - 1 ? REAL_OFFSET : 0,
        real: true,
        cuttable: at === 1,
      },
      address: `10.77.0.${10 + at}/24`,
      port,
      source: this.server.url(HOST),
      trust: this.author.trust,
      directory,
      options: ['--samples-to', this.server.url(HOST)],
    });
    await run(['ip', '-batch', '-'], {
      input: [
        `link add ${port} type veth peer name up0 netns ${edge.pid}`,
        `link set ${port} master fleet`,
        `link set ${port} up`,
        '',
      ].join('\n'),
    });
    return edge;
  }

  async #withSimulated(count: number, directory: string): Promise<Stand> {
    // The disks of so many machines are not one disk.
    const stores = await mkdtemp(join('/dev/shm', 'sluice-fleet-lab-')).catch(() => directory);
    const groups: Group[] = [];
    const add = (names: readonly string[], offset: number, cuttable: boolean): void => {
      if (names.length === 0) return;
      const edges = names.map((name, at) => ({
        name,
        site: SITES[at % SITES.length],
        offset,
        real: false,
        cuttable,
      }));
      const source = this.server.url('127.0.0.1', cuttable ? this.proxy.port : undefined);
      const group = new SimulatedEdges({
        edges,
        source,
        trust: this.author.trust,
        directory: stores,
        offset,
      });
      groups.push({ group, skewed: offset !== 0 });
    };
    const wrong = count === 0 ? 0 : PER_OFFSET;
    const right = Math.max(0, count - SKEWED);
    const names = Array.from({ length: right }, (_, at) => `sim${at + 1}`);
    add(names.slice(0, right >> 1), 0, false);
    add(names.slice(right >> 1), 0, true);
    for (const [name, offset] of Object.entries(OFFSETS))
      add(
        Array.from({ length: wrong }, (_, at) => `${name}${at + 1}`),
        offset,
        false,
      );
    const stand = new Stand(this, [directory, stores], groups);
    await until(
      async () => (await stand.states()).every(({ connected }) => connected) || undefined,
      'not all edges have found the server',
      LONG,
    );
    return stand;
  }

  #desk(): NatsDesk {
    return new NatsDesk(natsPlace(this.server.url('127.0.0.1')));
  }

  get groups(): readonly EdgeGroup[] {
    return [...this.real, ...this.#simulated.map(({ group }) => group)];
  }

  get edges(): readonly EdgePlace[] {
    return this.groups.flatMap(({ edges }) => edges);
  }

  async states(): Promise<EdgeState[]> {
    return (await Promise.all(this.groups.map((group) => group.states()))).flat();
  }

  landings(): Landing[] {
    return this.groups.flatMap((group) => group.landings());
  }

  /** Publishes statements as `sluice rule publish` does, and holds the edges to them. */
  async publish(...statements: readonly Signed[]): Promise<void> {
    const lines = statements.map(({ line }) => line);
    await this.#again(() => this.#desk().publish(lines), 'nothing can be published');
    this.author.published(...statements);
  }

  /** What edges have told the desk. */
  async results(): ReturnType<NatsDesk['results']> {
    return await this.#again(() => this.#desk().results(), 'no results can be read');
  }

  /** Lets somebody write into the bucket of rules who may, and has no key. */
  async meddle(work: (bucket: KV) => Promise<void>): Promise<void> {
    const place = natsPlace(this.server.url('127.0.0.1'));
    await this.#again(async () => {
      const connection = await connectOnce(place);
      try {
        await work(await new Kvm(connection).open(place.rules));
      } finally {
        await connection.close();
      }
      return true;
    }, 'nothing can be written');
  }

  /** What a busy machine keeps from being done in time may be done again: all of it may come twice. */
  async #again<T>(work: () => Promise<T>, what: string): Promise<T> {
    let failure = '';
    return await until(
      () =>
        work().catch((error: Error) => {
          failure = error.message;
          return undefined;
        }),
      () => `${what}: ${failure}`,
      LONG,
    );
  }

  /** What is in force at an edge and should not be, what should be and is not; empty: all is as it should be. */
  wrong(states: readonly EdgeState[], only: (edge: EdgePlace) => boolean = () => true): string[] {
    const places = new Map(this.edges.map((edge) => [edge.name, edge]));
    return states.flatMap(({ edge, inForce }) => {
      const place = places.get(edge);
      if (place === undefined || !only(place)) return [];
      const truth = this.author.truth(place);
      return [
        ...[...truth]
          .filter(([id, revision]) => inForce.get(id) !== revision)
          .map(([id, revision]) => `${edge}: ${id} revision ${revision} is not in force`),
        ...[...inForce]
          .filter(([id]) => !truth.has(id))
          .map(([id, revision]) => `${edge}: ${id} revision ${revision} is in force`),
      ];
    });
  }

  /** Waits until the edges have in force what they should have. Answers seconds. @throws SluiceError LAB */
  async settled(only: (edge: EdgePlace) => boolean = () => true): Promise<number> {
    const began = performance.now();
    let wrong: string[] = [];
    await until(
      async () => {
        wrong = this.wrong(await this.states(), only);
        return wrong.length === 0 || undefined;
      },
      () => `${wrong.length} rules are not as they should be: ${wrong.slice(0, 5).join('; ')}`,
      LONG,
    );
    return (performance.now() - began) / 1000;
  }

  async close(): Promise<void> {
    await Promise.all(this.groups.map((group) => group.close()));
    await this.proxy.close();
    await this.server.kill();
    await run(['ip', 'link', 'del', 'fleet'], { check: false });
    for (const directory of this.#directories) await rm(directory, { recursive: true, force: true });
  }
}
