export const TICKS_PER_SECOND = 8;
export const SLOTS = 512;
const LEVEL_BITS = 9;
/** Ticks that both levels reach over: 9 hours. */
const REACH = SLOTS * SLOTS;
/** A second head beside the buckets takes a list out before it is worked on, for what is put back may come into it again. */
const BUCKETS = 2 * SLOTS + 1;
/** Nodes that the owner is told of at a time; at most MOST_FETCHED of the table. */
const AHEAD = 32;
// Indices into the clock.
const BASE = 0;
const TICK = 1;

/** What the wheel asks of its owner. */
export interface TimerOwner {
  /** The time at which the node is due. */
  deadline(node: number): number;
  /** `deadline` will be asked of these first `count` nodes, one after the other. */
  upcoming(nodes: Int32Array, count: number): void;
  /** The node, taken out of the wheel, is due: put it back or let it go. */
  due(node: number, now: number): void;
}

/**
 * A timer wheel of two levels (64 s in steps of 1/8 s, 9 hours in steps of 64 s) over numbered nodes, each of which has
 * at most one timer. Every operation costs the same however many nodes there are. A node is due up to 1/8 s late: who
 * needs it to the point compares the deadline itself.
 */
export class TimerWheel {
  /** Packet time from which on `advance` has something to do. */
  next = Number.NEGATIVE_INFINITY;
  readonly #owner: TimerOwner;
  readonly #heads: number;
  /** Of each node and head, the one after it and the one before it; the heads of the buckets come behind the nodes. */
  readonly links: Int32Array;
  /** The second at which the ticks begin, and the tick that was worked off last. */
  readonly clock = new Float64Array(2);
  readonly #ahead = new Int32Array(AHEAD);
  #started = false;

  constructor(nodes: number, owner: TimerOwner) {
    this.#owner = owner;
    this.#heads = nodes;
    this.links = new Int32Array(2 * (nodes + BUCKETS)).fill(-1);
    for (let head = nodes; head < nodes + BUCKETS; head++) {
      this.links[2 * head] = head;
      this.links[2 * head + 1] = head;
    }
  }

  /** Puts a node in, or moves it, for `deadline` (seconds). */
  set(node: number, deadline: number): void {
    this.clear(node);
    const now = this.clock[TICK];
    const wanted = Math.ceil((deadline - this.clock[BASE]) * TICKS_PER_SECOND);
    const tick = wanted > now ? Math.min(wanted, now + REACH - SLOTS) : now + 1;
    const bucket = tick - now < SLOTS ? tick & (SLOTS - 1) : SLOTS + (Math.floor(tick / SLOTS) & (SLOTS - 1));
    const head = this.#heads + bucket;
    const last = this.links[2 * head + 1];
    this.links[2 * last] = node;
    this.links[2 * node + 1] = last;
    this.links[2 * node] = head;
    this.links[2 * head + 1] = node;
  }

  /** Takes a node out, if it is in. */
  clear(node: number): void {
    const after = this.links[2 * node];
    if (after < 0) return;
    const before = this.links[2 * node + 1];
    this.links[2 * before] = after;
    this.links[2 * after + 1] = before;
    this.links[2 * node] = -1;
    this.links[2 * node + 1] = -1;
  }

  /** Works off all that was due before `now`. */
  advance(now: number): void {
    if (!this.#started) {
      this.#started = true;
      this.clock[BASE] = Math.floor(now);
    }
    const target = Math.floor((now - this.clock[BASE]) * TICKS_PER_SECOND);
    if (target - this.clock[TICK] >= REACH) {
      // A leap over all that the wheel holds: look at each list once, whatever the size of the leap.
      this.clock[BASE] += Math.floor(target / TICKS_PER_SECOND);
      this.clock[TICK] = 0;
      for (let bucket = 0; bucket < 2 * SLOTS; bucket++) this.#work(bucket, now);
    } else {
      while (this.clock[TICK] < target) {
        this.clock[TICK] = this.clock[TICK] + 1;
        if ((this.clock[TICK] & (SLOTS - 1)) === 0)
          this.#work(SLOTS + ((this.clock[TICK] >>> LEVEL_BITS) & (SLOTS - 1)), now);
        this.#work(this.clock[TICK] & (SLOTS - 1), now);
      }
    }
    this.next = this.clock[BASE] + (this.clock[TICK] + 1) / TICKS_PER_SECOND;
  }

  /** Starts over at an earlier time: every node has to be put in again. */
  rewind(now: number): void {
    this.clock[BASE] = Math.floor(now);
    this.clock[TICK] = 0;
    this.next = this.clock[BASE] + 1 / TICKS_PER_SECOND;
  }

  #work(bucket: number, now: number): void {
    const head = this.#heads + bucket;
    const first = this.links[2 * head];
    if (first === head) return;
    const hold = this.#heads + 2 * SLOTS;
    const last = this.links[2 * head + 1];
    this.links[2 * hold] = first;
    this.links[2 * first + 1] = hold;
    this.links[2 * hold + 1] = last;
    this.links[2 * last] = hold;
    this.links[2 * head] = head;
    this.links[2 * head + 1] = head;
    for (let known = 0; ; known--) {
      const node = this.links[2 * hold];
      if (node === hold) return;
      if (known === 0) known = this.#announce(node, hold);
      const deadline = this.#owner.deadline(node);
      if (deadline > now) {
        this.set(node, deadline);
      } else {
        this.clear(node);
        this.#owner.due(node, now);
      }
    }
  }

  /** Tells the owner which nodes come next from this one on: how many. */
  #announce(first: number, end: number): number {
    const ahead = this.#ahead;
    let count = 0;
    for (let node = first; node !== end && count < AHEAD; node = this.links[2 * node]) ahead[count++] = node;
    this.#owner.upcoming(ahead, count);
    return count;
  }
}
