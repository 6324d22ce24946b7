import { array, assert, constantFrom, integer, nat, property, record } from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LeaseBook, type LeaseStep } from '../../src/detect/leases.ts';

const LIFE = 3000;
const RENEW = 1000;

/** A bucket, and detectors that see it after a while, each with a clock of its own. */
class World {
  now = 0;
  readonly members = new Map<string, Member>();
  readonly names: readonly string[];
  #revision = 0;
  readonly #leases = new Map<string, { holder: string | null; revision: number }>();

  constructor(count: number) {
    this.names = Array.from({ length: count }, (_, at) => String(at));
  }

  join(id: string, delay = 0): Member {
    const book = new LeaseBook(id, this.names, LIFE);
    const member: Member = {
      id,
      book,
      offset: this.members.size * 1e6,
      alive: true,
      due: 0,
      delay,
      later: [],
    };
    this.members.set(id, member);
    for (const [name, { holder, revision }] of this.#leases) book.sawLease(name, holder, revision);
    for (const other of this.members.keys()) book.sawSession(other, true, this.now + member.offset);
    book.ready = true;
    return member;
  }

  #tell(what: (book: LeaseBook, at: number) => void): void {
    for (const member of this.members.values())
      member.later.push({ at: this.now + member.delay, what: (at) => what(member.book, at) });
  }

  #set({ name, revision }: LeaseStep, holder: string | null): void {
    if ((this.#leases.get(name)?.revision ?? 0) !== revision) return;
    const lease = { holder, revision: ++this.#revision };
    this.#leases.set(name, lease);
    this.#tell((book) => book.sawLease(name, holder, lease.revision));
  }

  /** 250 ms of all; answers what each holds. */
  step(): Map<string, string[]> {
    this.now += 250;
    for (const member of this.members.values()) {
      const at = this.now + member.offset;
      const due = member.later.filter((each) => each.at <= this.now);
      member.later = member.later.filter((each) => each.at > this.now);
      for (const { what } of due) what(at);
      if (!member.alive) continue;
      if (this.now >= member.due) {
        member.due = this.now + RENEW;
        member.book.renewed(at);
        this.#tell((book, seen) => book.sawSession(member.id, true, seen));
      }
      const { claim, release } = member.book.plan(at);
      for (const step of release) this.#set(step, null);
      for (const step of claim) this.#set(step, member.id);
    }
    return this.held();
  }

  held(): Map<string, string[]> {
    return new Map(
      [...this.members.values()].map(({ id, book, offset }) => [id, book.held(this.now + offset)]),
    );
  }

  run(seconds: number): Map<string, string[]> {
    for (let i = 0; i < 4 * seconds; i++) this.step();
    return this.held();
  }
}

interface Member {
  readonly id: string;
  readonly book: LeaseBook;
  /** Of its clock. */
  readonly offset: number;
  /** It renews and does something. */
  alive: boolean;
  due: number;
  /** Milliseconds until it sees what was changed. */
  readonly delay: number;
  later: { readonly at: number; readonly what: (at: number) => void }[];
}

const sizes = (held: Map<string, string[]>): number[] =>
  [...held.values()].map(({ length }) => length).sort((a, b) => a - b);
const all = (held: Map<string, string[]>): string[] => [...held.values()].flat().sort();

describe('leases', () => {
  it('of a lone detector are all its own; of several a fair share each', () => {
    const world = new World(17);
    world.join('aa');
    expect(sizes(world.run(3))).toEqual([17]);
    world.join('bb');
    expect(sizes(world.run(5))).toEqual([8, 9]);
    world.join('cc');
    expect(sizes(world.run(5))).toEqual([5, 6, 6]);
    expect(all(world.held())).toEqual([...world.names].sort());
  });

  it('of one that died go to the others within its life and a look', () => {
    const world = new World(16);
    const first = world.join('aa');
    world.join('bb');
    world.run(5);
    first.alive = false;
    world.run((LIFE + 1000) / 1000);
    expect(sizes(world.held())).toEqual([0, 16]);
  });

  it('of more detectors than partitions: one each, and none for the rest', () => {
    const world = new World(3);
    for (const id of ['aa', 'bb', 'cc', 'dd', 'ee']) world.join(id);
    expect(sizes(world.run(8))).toEqual([0, 0, 1, 1, 1]);
  });

  it('are let go of by who cannot renew, before anybody else may take them', () => {
    const world = new World(4);
    const [first, second] = [world.join('aa'), world.join('bb')];
    world.run(4);
    expect(sizes(world.held())).toEqual([2, 2]);
    first.alive = false;
    for (let i = 0; i < 40; i++) {
      const held = world.step();
      const taken = held.get('bb')?.length === 4;
      if (taken) expect(held.get('aa')).toEqual([]);
    }
    expect(second.book.held(world.now + second.offset)).toHaveLength(4);
    // It comes back, and gets its share again.
    first.alive = true;
    expect(sizes(world.run(5))).toEqual([2, 2]);
  });

  it('are not given back for one of whom only a session is left', () => {
    const world = new World(4);
    const [first, second] = [world.join('aa'), world.join('bb')];
    world.run(4);
    second.alive = false;
    world.run(6);
    // As after a new connection: all that is in the bucket is seen once more.
    const at = world.now + first.offset;
    first.book.ready = false;
    for (const id of ['aa', 'bb']) first.book.sawSession(id, true, at);
    first.book.ready = true;
    expect(first.book.alive(at)).toEqual(['aa', 'bb']);
    expect(first.book.plan(at)).toEqual({ claim: [], release: [] });
    expect(sizes(world.run(1))).toEqual([0, 4]);
  });

  it('are not taken by who does not see its own renewals', () => {
    const world = new World(4);
    world.join('aa');
    world.run(4);
    const blind = world.join('bb', Number.POSITIVE_INFINITY);
    world.run(10);
    expect(blind.book.held(world.now + blind.offset)).toEqual([]);
    expect(all(world.held()).length).toBeGreaterThan(0);
  });

  it('are never held by two, and by all in the end, whoever comes, pauses and goes', () => {
    const act = record({
      who: nat(4),
      what: constantFrom('join', 'pause', 'go on', 'nothing'),
      seconds: integer({ min: 1, max: 6 }),
    });
    assert(
      property(integer({ min: 1, max: 20 }), array(act, { maxLength: 12 }), (count, acts) => {
        const world = new World(count);
        const ids = ['0a', '1b', '2c', '3d', '4e'];
        world.join('ff');
        for (const { who, what, seconds } of acts) {
          const member = world.members.get(ids[who]);
          if (what === 'join' && member === undefined) world.join(ids[who]);
          if (member !== undefined && what !== 'join' && what !== 'nothing') member.alive = what === 'go on';
          for (let i = 0; i < 4 * seconds; i++) {
            const held = all(world.step());
            expect(new Set(held).size).toBe(held.length);
          }
        }
        expect(all(world.run(12))).toEqual([...world.names].sort());
      }),
      { numRuns: 60 },
    );
  });
});
