import { addon } from './addon.ts';
import { check, KernelError } from './errors.ts';

/** Layout of struct ethtool_rx_flow_spec (linux/ethtool.h; native/ethtool.cc checks it); numbers in the host's order. */
export const FLOW_SPEC = {
  size: 168,
  type: 0,
  /** What a packet is compared with, and behind it the bits that count. */
  header: 4,
  mask: 76,
  headerSize: 52,
  /** Queue, or what else is done: all ones drops. */
  action: 152,
  location: 160,
} as const;

/** Offsets in struct ethtool_rxnfc. */
const COMMAND = { size: 192, data: 8, spec: 16, count: 184, locations: 188 } as const;
const Command = { count: 0x2e, get: 0x2f, all: 0x30, remove: 0x31, insert: 0x32 } as const;
/** The driver chooses a place itself (RX_CLS_LOC_SPECIAL, RX_CLS_LOC_ANY). */
const SPECIAL = 0x8000_0000;
const ANY = 0xffff_ffff;
/** Rules of one NIC that are looked at: the largest tables have 16,384. */
const MOST = 65_536;

/**
 * The receive classification rules of one NIC (`ethtool -n`), in the network namespace of the calling thread. Errors:
 * KernelError with what the driver says: EOPNOTSUPP has none or has them switched off, EINVAL cannot do this one,
 * ENOSPC is full, ENOENT there is none at this place.
 */
export class NicRules {
  readonly #ifname: string;

  constructor(ifname: string) {
    this.#ifname = ifname;
  }

  /** Adds a rule (struct ethtool_rx_flow_spec) wherever there is room; its location. */
  insert(spec: Uint8Array): number {
    const command = new Uint8Array(COMMAND.size);
    command.set(spec, COMMAND.spec);
    const view = new DataView(command.buffer);
    view.setUint32(COMMAND.spec + FLOW_SPEC.location, this.#free(), true);
    this.#call(command, Command.insert, 'add a rule to');
    return view.getUint32(COMMAND.spec + FLOW_SPEC.location, true);
  }

  /** The rule at a location, as the driver has it; undefined: none is there. */
  read(location: number): Uint8Array | undefined {
    const command = this.#at(location);
    try {
      this.#call(command, Command.get, 'read a rule of');
    } catch (error) {
      if (error instanceof KernelError && error.errnoName === 'ENOENT') return undefined;
      throw error;
    }
    return command.slice(COMMAND.spec, COMMAND.spec + FLOW_SPEC.size);
  }

  remove(location: number): void {
    this.#call(this.#at(location), Command.remove, 'remove a rule of');
  }

  #at(location: number): Uint8Array {
    const command = new Uint8Array(COMMAND.size);
    new DataView(command.buffer).setUint32(COMMAND.spec + FLOW_SPEC.location, location, true);
    return command;
  }

  /** Where the next rule goes: the driver's choice, or the last free place: what is there by hand comes first. */
  #free(): number {
    const command = new Uint8Array(COMMAND.size);
    const view = new DataView(command.buffer);
    this.#call(command, Command.count, 'count the rules of');
    if ((view.getUint32(COMMAND.data, true) & SPECIAL) !== 0) return ANY;
    const there = Math.min(view.getUint32(COMMAND.count, true), MOST);
    const list = new Uint8Array(Math.max(COMMAND.size, COMMAND.locations + there * 4));
    const answer = new DataView(list.buffer);
    answer.setUint32(COMMAND.count, there, true);
    this.#call(list, Command.all, 'list the rules of');
    const taken = new Set<number>();
    for (let i = 0; i < there; i++) taken.add(answer.getUint32(COMMAND.locations + i * 4, true));
    let location = Math.min(answer.getUint32(COMMAND.data, true), MOST) - 1;
    while (location >= 0 && taken.has(location)) location--;
    if (location >= 0) return location;
    throw new KernelError('nic.rule', ENOSPC, `add a rule to ${this.#ifname}`);
  }

  #call(command: Uint8Array, kind: number, what: string): void {
    new DataView(command.buffer).setUint32(0, kind, true);
    check('nic.rule', addon().nicRules(this.#ifname, command), () => `${what} ${this.#ifname}`);
  }
}

const ENOSPC = 28;
