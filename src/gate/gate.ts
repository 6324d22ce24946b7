import { SluiceError } from '../base/errors.ts';
import type { BpfMap, BpfObject, BpfProgram } from '../kernel/index.ts';
import type { AttachMode } from './attach.ts';
import { clearDeadCaptures } from './cap-slots.ts';
import { Claims } from './claims.ts';
import type { GateInterface, Place } from './control-places.ts';
import { constantsOf, type Features, sameFeatures } from './features.ts';
import { framesInSeveral, OPS_PER_WORKER, type OpenedGate, openGate } from './gate-opening.ts';
import { type GateOptions, interfacesOf } from './gate-options.ts';
import { bpfObjectPath, type GateKind, isSlotMap, KINDS, objectOf, snapConstant } from './kind.ts';
import { RulesSlot } from './layout.ts';
import { type Count, type Ledger, mapLedger, readLedger } from './ledger.ts';
import type { Leftovers } from './leftovers.ts';
import type { Attached, GateSeats } from './links.ts';
import type { GateHandles } from './ops.ts';
import { removePeerPins } from './peer-pins.ts';
import type { PeerTables } from './peers.ts';
import { Found, noteMeta } from './pinned.ts';
import type { PinAccess, PinDirectory } from './pins.ts';
import { type GateSample, GateSampler, NO_SAMPLES, SAMPLE_MAPS, type SampleOptions } from './sampling.ts';
import { leaveSeats } from './seats.ts';
import { installOwn, occupy, type SlotStatus, slotStatus } from './slots.ts';
import { STEER_MAPS, SteerBooks, type SteeringReport, steerOptions } from './steer.ts';
import { filterRow, type TraceFilter, TraceReader } from './trace.ts';

/** The gate of one interface, or of several that share it: the loaded programs, their tables, the pins, the links. */
export class Gate {
  readonly ifname: string;
  readonly ifindex: number;
  /** What an earlier run left on this interface. */
  readonly leftovers: Leftovers;
  /** The tables are those of an earlier gate, with what was in them. */
  readonly tookOver: boolean;
  readonly #keep: PinAccess | undefined;
  readonly #vlanKey: boolean;
  readonly #snaplen: number | undefined;
  #kind: GateKind;
  #object: BpfObject;
  /** The programs that run in place of the object's own, once features have been switched on. */
  #programs: BpfObject | undefined;
  #features: Features;
  #sampler: GateSampler | undefined;
  #expectsRules = false;
  readonly #interfaces: readonly GateInterface[];
  readonly #claims: Claims;
  readonly #pins: PinDirectory;
  readonly #seats: GateSeats;
  readonly #frags: boolean;
  readonly #peers: PeerTables | undefined;
  #ledger: Uint32Array;
  #steerBooks: SteerBooks | undefined;
  #closed = false;
  /** The kernel did not take the program that leaves notes: not tried again. */
  #noNotes = false;

  private constructor(options: GateOptions, { object, claims, ...opened }: OpenedGate) {
    this.#features = opened.features;
    this.ifname = options.ifname;
    this.ifindex = options.ifindex;
    this.leftovers = opened.leftovers;
    this.tookOver = opened.tookOver;
    this.#keep = options.keep;
    this.#vlanKey = options.vlanKey;
    this.#snaplen = options.snaplen;
    this.#kind = options.kind ?? 'xdp';
    this.#object = object;
    this.#interfaces = interfacesOf(options);
    this.#claims = claims;
    this.#pins = claims.pins;
    this.#seats = opened.seats;
    this.#frags = framesInSeveral(options);
    this.#peers = opened.peerTables;
    this.#ledger = opened.ledger;
    this.#steerBooks = opened.steerBooks;
  }

  /**
   * Loads the gate and pins its tables; nothing is attached yet. Throws INTERFACE_BUSY when another Sluice holds the
   * interface, or a program of somebody else is there while this gate is to outlive its process; PIN_FOREIGN, VerifierError, PRIVILEGE or KERNEL_FEATURE when the kernel does not take it.
   */
  static open(options: GateOptions): Gate {
    return new Gate(options, openGate(options));
  }

  /**
   * Takes down a gate whose daemon is dead: removes what is pinned, the link with it. False when there was none.
   * @throws SluiceError INTERFACE_BUSY when its daemon lives, PIN_FOREIGN
   */
  static remove({ ifindex, interfaces: all }: Place): boolean {
    const claims = Claims.claim(all, ifindex);
    const { pins } = claims;
    try {
      if (!pins.occupied) return false;
      const found = new Found(pins, ifindex);
      leaveSeats(found);
      found.close();
      pins.clear();
      return true;
    } finally {
      claims.release();
    }
  }

  /** What its program looks for now. */
  get features(): Readonly<Features> {
    return this.#features;
  }

  get kind(): GateKind {
    return this.#kind;
  }

  /** Its program: of kind `socket` for the sockets, else for test runs and for its figures. */
  get program(): BpfProgram {
    return (this.#programs ?? this.#object).program(KINDS[this.#kind].program);
  }

  /**
   * Where no XDP program can be attached: goes on over the same tables, which workers have open, with a filter for sockets.
   * @throws SluiceError, and stays what it was
   */
  becomeSocketFilter(): void {
    if (this.#kind === 'socket') return;
    const programs = this.#load(this.#features, {}, 'socket');
    installOwn(programs.map('rules'), programs);
    this.detach();
    this.#kind = 'socket';
    for (const name of KINDS.xdp.pinned) if (isSlotMap(name)) this.#pins.unpin(name);
    this.#replacePrograms(programs);
  }

  /**
   * Switches on what costs something with each packet, and is not in the program until then: it is loaded anew over the same
   * tables, and takes over from one packet to the next. What is on stays on.
   */
  enable(wanted: Partial<Pick<Features, 'pairs' | 'prefixes' | 'thresholds'>>): void {
    const pairs = this.#features.pairs || wanted.pairs === true;
    const prefixes = Math.max(this.#features.prefixes, wanted.prefixes ?? 0);
    const thresholds = this.#features.thresholds || wanted.thresholds === true;
    this.#configure({ ...this.#features, pairs, prefixes, thresholds });
  }

  /**
   * The program that every packet meets before shunting (docs/adr/0016-rules-slot.md), in place of the one before, from one
   * packet to the next; undefined for none, which costs nothing. Those that it goes on to in the map `rules` are the caller's.
   * @throws SluiceError PROGRAM_UNFIT
   */
  setRules(program: BpfProgram | undefined): void {
    occupy(this.#object.map('rules'), RulesSlot.entry, program);
    this.#configure({ ...this.#features, rules: program !== undefined || this.#expectsRules });
  }

  /** From now on packets ask for rules even if there are none: the first one is then in force without another program of the gate. */
  expectRules(): void {
    this.#expectsRules = true;
    this.#configure({ ...this.#features, rules: true });
  }

  /**
   * A program of the gate's kind that runs after our pass verdict, unless a capture sits in the hook's pass slot. That of a socket
   * filter says how many bytes of the frame are kept.
   * @throws SluiceError PROGRAM_UNFIT; USAGE where packets are steered
   */
  setNext(program: BpfProgram | undefined): void {
    if (program !== undefined && this.#features.steer !== undefined) {
      throw new SluiceError('USAGE', 'a gate that steers packets to CPUs has nothing behind it', {
        help: 'leave out --steer, or the program behind the gate',
      });
    }
    const slots = this.#sameKind(this.#kind) ? this.#object : this.#programs;
    if (slots !== undefined) occupy(slots.map('next'), 0, program);
  }

  /**
   * Begins to tell about packets that match; `close` of what it answers ends that, and the gate is as it was. One at a time.
   * @throws SluiceError USAGE for what is no address
   */
  trace(filter: TraceFilter): { read: TraceReader['read']; close: () => void } {
    const place = this.#object.map('trace_filter');
    place.set(new Uint8Array(4), filterRow(filter));
    const reader = new TraceReader(this.#object.map('trace'), place);
    // What the last one left unread.
    reader.read();
    try {
      this.#configure({ ...this.#features, trace: true });
    } catch (error) {
      reader.close();
      throw error;
    }
    return {
      read: () => reader.read(),
      close: () => {
        reader.close();
        if (!this.#closed) this.#configure({ ...this.#features, trace: false });
      },
    };
  }

  /**
   * To be called from time to time: takes killed captures out of the exit hook, and has the program tell captures why a packet
   * goes the way it goes while one of ours is there (docs/adr/0023-captures.md).
   */
  lookAfterCaptures(): void {
    if (this.#kind === 'socket') return;
    const notes = clearDeadCaptures(this.#object.map('hook'));
    if (notes === this.#features.notes || this.#noNotes) return;
    try {
      this.#configure({ ...this.#features, notes });
      noteMeta(this.#object.map('meta'), notes);
    } catch {
      // A capture goes without: nothing that somebody else has begun may end the gate.
      this.#noNotes = true;
    }
  }

  /**
   * Begins to sample what comes in, whatever becomes of it; `close` of what it answers ends that, and the gate is as it was.
   * @throws SluiceError EXISTS when somebody samples already, KERNEL_FEATURE where the gate is no XDP program
   */
  sample(options: SampleOptions, told: (sample: GateSample) => void): GateSampler {
    if (this.#sampler !== undefined) throw new SluiceError('EXISTS', 'this gate is sampled already');
    if (this.#kind === 'socket')
      throw new SluiceError('KERNEL_FEATURE', 'a gate that is a socket filter takes no samples');
    const ifindices = this.#interfaces.map(({ ifindex }) => ifindex);
    const sampler = new GateSampler(options, ifindices, told, () => {
      this.#sampler = undefined;
      if (!this.#closed) this.#configure({ ...this.#features, samples: false });
    });
    this.#sampler = sampler;
    try {
      this.#configure({ ...this.#features, samples: true });
    } catch (error) {
      sampler.close();
      throw error;
    }
    return sampler;
  }

  /** Samples so far, and those that were due and are not there: packets and their L2 bytes. */
  sampled(): Record<'sampled' | 'sampleLost', Count> {
    const { taken, takenBytes, lost, over, missedBytes } = this.#sampler?.counts() ?? NO_SAMPLES;
    return {
      sampled: { pkts: taken, bytes: takenBytes },
      sampleLost: { pkts: lost + over, bytes: missedBytes },
    };
  }

  slots(): SlotStatus {
    return slotStatus((name) => this.#object.map(name));
  }

  #configure(features: Features): void {
    if (sameFeatures(features, this.#features)) return;
    const programs = this.#load(features, {});
    try {
      installOwn((this.#sameKind(this.#kind) ? this.#object : programs).map('rules'), programs);
      this.#seats.update(programs.program(KINDS[this.#kind].program), this.program);
    } catch (error) {
      programs.close();
      throw error;
    }
    this.#features = features;
    this.#replacePrograms(programs);
    this.#pinAgain(programs.programs);
  }

  /** Whether programs of this kind go on to each other by the slots of the tables' own object. */
  #sameKind(kind: GateKind): boolean {
    return this.#object.programs.has(KINDS[kind].program);
  }

  /** What they need of maps of their own they hold; what is in slots is there for as long as somebody has them open. */
  #replacePrograms(programs: BpfObject): void {
    const slots = this.#sameKind(this.#kind);
    for (const [name, map] of programs.maps) if (slots || !isSlotMap(name)) map.close();
    this.#programs?.close();
    this.#programs = programs;
  }

  /** The same gate once more, over the same tables save those that get a new size. */
  #load(features: Features, sizes: Readonly<Record<string, number>>, kind = this.#kind): BpfObject {
    const parts = KINDS[kind];
    const sameKind = this.#sameKind(kind);
    const same = [...this.#object.maps].filter(
      ([name]) =>
        !name.includes('.') &&
        !Object.hasOwn(sizes, name) &&
        (sameKind || !(isSlotMap(name) || STEER_MAPS.has(name) || SAMPLE_MAPS.has(name))),
    );
    return parts.load(bpfObjectPath(objectOf(kind, features)), {
      constants: {
        ...constantsOf(features, this.#vlanKey),
        ...snapConstant(kind, this.#snaplen),
      },
      reuseMaps: { ...Object.fromEntries(same), ...(features.samples ? this.#sampler?.maps : undefined) },
      mapSizes: sameKind ? sizes : { ...parts.sizes(), ...sizes },
      programs: steerOptions(features.steer, features.tunnels !== undefined).programs,
      frags: this.#frags,
    });
  }

  #pinAgain(things: Iterable<[string, BpfMap | BpfProgram]>): void {
    if (this.#keep === undefined) return;
    for (const [name, thing] of things) this.#pins.put(name, thing);
    this.#pins.share(this.#keep);
  }

  /**
   * Flow tables of another size, empty and beside those in use. `commit` makes them the gate's from one packet to the next;
   * handles that were given out before are worth nothing then.
   */
  prepare(sizes: { flows4: number; flows6: number }): {
    tables: Record<4 | 6, BpfMap>;
    commit: () => void;
    discard: () => void;
  } {
    const next = this.#load(this.#features, sizes);
    return {
      tables: { 4: next.map('flows4'), 6: next.map('flows6') },
      discard: () => next.close(),
      commit: () => {
        installOwn(next.map('rules'), next);
        this.#seats.update(next.program(KINDS.xdp.program), this.program);
        const before = this.#object;
        this.#object = next;
        this.#ledger = mapLedger(next);
        const { steer } = this.#features;
        if (steer !== undefined) this.#steerBooks = new SteerBooks(next, steer);
        this.#programs?.close();
        this.#programs = undefined;
        before.close();
        const flows = [...next.maps].filter(([name]) => Object.hasOwn(sizes, name));
        this.#pinAgain([...flows, ...next.programs]);
      },
    };
  }

  /** Whether programs that it goes on to have to take frames in several buffers, or must not, by their flags. */
  get frags(): boolean {
    return this.#frags;
  }

  /** Where other sensors find their tables. */
  get peerPins(): readonly string[] {
    return this.#peers?.paths ?? [];
  }

  /** Paths by name of what is pinned. */
  get pins(): Record<string, string> {
    return Object.fromEntries(this.#pins.names().map((name) => [name, this.#pins.at(name)]));
  }

  /**
   * Attaches by raw links, which go away with this process unless they are kept. `auto` takes native mode where the
   * driver has it, else generic; `warning` then says why. A foreign program is never replaced (INTERFACE_BUSY).
   * Answers for each interface, in the order they were given in.
   */
  attach(mode: AttachMode | 'auto'): Attached[] {
    const attached = this.#seats.attach(this.program, this.#interfaces, mode);
    const { steer } = this.#features;
    const tagged = attached.every((each) => each.mode !== 'generic');
    if (steer !== undefined && steer.tagged !== tagged)
      this.#configure({ ...this.#features, steer: { ...steer, tagged } });
    return attached;
  }

  /** What the worker with this number (from 0) opens with GateClient. */
  handles(worker: number): GateHandles {
    return {
      flows4: this.#object.map('flows4').fd,
      flows6: this.#object.map('flows6').fd,
      side: this.#object.map('side').fd,
      leases: this.#object.map('leases').fd,
      ops: this.#object.map('ops').fd,
      opsProgram: this.#object.program('sluice_ops').fd,
      firstOp: worker * OPS_PER_WORKER,
      opCount: OPS_PER_WORKER,
      owner: worker + 1,
    };
  }

  /** A table of the gate by its name in bpf/gate.bpf.c; it stays the gate's. */
  table(name: string): BpfMap {
    return this.#object.map(name);
  }

  ledger(): Ledger {
    return readLedger(this.#ledger);
  }

  /** Undefined unless it steers. */
  steering(): SteeringReport | undefined {
    return this.#steerBooks?.report();
  }

  /**
   * Takes the gate off all interfaces, or leaves one of them to others: every packet passes from now on. The tables stay
   * until `close`.
   */
  detach(ifindex?: number): void {
    if (ifindex === undefined) {
      this.#seats.detachAll();
      return;
    }
    this.#seats.detach(ifindex);
    this.#claims.drop(ifindex);
  }

  /** Detaches, removes the pins and frees the tables; `left` leaves the pins to whoever comes next. */
  close(left = false): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#sampler?.close();
    this.detach();
    if (!left) {
      this.#pins.clear();
      removePeerPins(this.peerPins, this.#pins.name);
    }
    this.#programs?.close();
    this.#object.close();
    this.#claims.release();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
