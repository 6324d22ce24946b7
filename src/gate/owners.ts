import { SluiceError } from '../base/errors.ts';
import { monotonicSeconds } from './clock.ts';
import { LIMITS, type OwnerRow } from './control-protocol.ts';
import { OWNERS } from './layout.ts';
import { Lease } from './lease.ts';

/** An owner as it is kept over a restart of the daemon. */
export interface OwnerSettings {
  name: string;
  /** Its place in the `leases` map, 1 to 255; 0 is for what is made by hand. */
  slot: number;
  /** Who registered it: nobody else but the superuser may speak for it. Undefined when the kernel did not tell. */
  uid: number | undefined;
  lease: number | 'off';
  idle: number | 'off';
  maxEntries: number;
}

export interface Owner extends OwnerSettings {
  entries: number;
  renewed: number;
  /** Waits for its last entries to go; the slot is free again then. */
  leaving: boolean;
}

/** How rows name what the policies of `sluice run` have shunted. */
export const SENSOR = 'run';

/** Who has entries in the gate, and until when the kernel believes in them. */
export class Owners {
  readonly #memory: ArrayBuffer;
  readonly #leases = new Map<number, Lease>();
  readonly #byName = new Map<string, Owner>();
  readonly #bySlot = new Map<number, Owner>();
  readonly #first: number;

  /**
   * `memory` is the mapped `leases` map. Those of an earlier daemon go on with the leases that they have. Slots below `first`
   * are the sensor's own.
   */
  constructor(memory: ArrayBuffer, before: readonly OwnerSettings[], first = 1) {
    this.#memory = memory;
    this.#first = first;
    for (const settings of before) this.#enter({ ...settings, entries: 0, renewed: 0, leaving: false });
  }

  #enter(owner: Owner): void {
    this.#byName.set(owner.name, owner);
    this.#bySlot.set(owner.slot, owner);
    this.#leases.set(owner.slot, new Lease(this.#memory, owner.slot, owner.lease));
  }

  /**
   * Registers an owner and gives it its first lease; the same user may change its settings.
   * @throws SluiceError USAGE, DENIED, LIMIT
   */
  register(
    wanted: Pick<OwnerSettings, 'name' | 'lease' | 'idle' | 'maxEntries'>,
    uid: number | undefined,
  ): Owner {
    if (wanted.lease === 'off' && wanted.idle === 'off') {
      throw new SluiceError('USAGE', 'an owner may switch off its lease or its idle limit, never both', {
        help: 'somebody has to let go of an entry some day',
      });
    }
    const known = this.#byName.get(wanted.name);
    if (known !== undefined) {
      this.#check(known, uid);
      Object.assign(known, wanted, { leaving: false });
      this.#enter(known);
      this.#renew(known);
      return known;
    }
    if (this.#byName.size >= LIMITS.owners)
      throw new SluiceError('LIMIT', `there are ${LIMITS.owners} owners already`);
    if (this.#first > 1 && wanted.name === SENSOR)
      throw new SluiceError('DENIED', `the owner ${SENSOR} is the sensor itself`);
    let slot = this.#first;
    while (this.#bySlot.has(slot)) slot++;
    if (slot >= OWNERS) throw new SluiceError('LIMIT', 'no slot for another owner is free');
    const owner: Owner = { ...wanted, slot, uid, entries: 0, renewed: 0, leaving: false };
    this.#enter(owner);
    this.#renew(owner);
    return owner;
  }

  /** The gate's own, at a place that is given to nobody else. It is there from now on; its first lease begins. */
  itself(name: string, slot: number, settings: Pick<OwnerSettings, 'lease' | 'idle' | 'maxEntries'>): Owner {
    const before = this.#byName.get(name);
    const owner: Owner = {
      ...settings,
      name,
      slot,
      uid: process.getuid?.(),
      entries: before?.entries ?? 0,
      renewed: 0,
      leaving: false,
    };
    this.#enter(owner);
    this.#renew(owner);
    return owner;
  }

  /** An owner that the user may speak for. @throws SluiceError NOT_FOUND, DENIED */
  get(name: string, uid: number | undefined): Owner {
    const owner = this.#byName.get(name);
    if (owner === undefined || owner.leaving) {
      throw new SluiceError('NOT_FOUND', `there is no owner ${name}`, {
        help: 'owner.register makes it',
      });
    }
    this.#check(owner, uid);
    return owner;
  }

  #check(owner: Owner, uid: number | undefined): void {
    if (uid === 0 || (uid !== undefined && uid === owner.uid)) return;
    throw new SluiceError('DENIED', `the owner ${owner.name} belongs to another user`);
  }

  /** Whether this user may end the entries of a slot. */
  mayEnd(slot: number, uid: number | undefined): boolean {
    const owner = this.#bySlot.get(slot);
    return slot === 0 || uid === 0 || (uid !== undefined && owner?.uid === uid);
  }

  /** An owner that registers, or nobody: not the sensor. */
  isClient(slot: number): boolean {
    return slot === 0 || slot >= this.#first;
  }

  /** Empty: by hand. */
  nameOf(slot: number): string {
    if (slot === 0) return '';
    return this.#bySlot.get(slot)?.name ?? (slot < this.#first ? SENSOR : `${slot}`);
  }

  at(slot: number): Owner | undefined {
    return this.#bySlot.get(slot);
  }

  renewItself(slot: number): void {
    const owner = this.#bySlot.get(slot);
    if (owner !== undefined && !owner.leaving) this.#renew(owner);
  }

  renew(name: string, uid: number | undefined): Owner {
    const owner = this.get(name, uid);
    this.#renew(owner);
    return owner;
  }

  #renew(owner: Owner): void {
    owner.renewed = monotonicSeconds();
    this.#leases.get(owner.slot)?.renew();
  }

  /** Its entries no longer match from now on. */
  leave(owner: Owner): void {
    owner.leaving = true;
    this.#leases.get(owner.slot)?.drop();
  }

  /** A slot is given away again only when no entry in the tables has its number. */
  forget(owner: Owner): void {
    this.#byName.delete(owner.name);
    this.#bySlot.delete(owner.slot);
    this.#leases.delete(owner.slot);
  }

  all(): Owner[] {
    return [...this.#byName.values()];
  }

  /** Whether the lease of a slot is over; a slot without owner has none. */
  lapsed(slot: number): boolean {
    const owner = this.#bySlot.get(slot);
    return owner === undefined || (this.#leases.get(slot)?.lapsed() ?? true);
  }

  settings(): OwnerSettings[] {
    return this.all()
      .filter((owner) => !owner.leaving)
      .map(({ name, slot, uid, lease, idle, maxEntries }) => ({ name, slot, uid, lease, idle, maxEntries }));
  }

  rows(): OwnerRow[] {
    const now = monotonicSeconds();
    return this.all().map((owner) => ({
      name: owner.name,
      slot: owner.slot,
      uid: owner.uid ?? null,
      lease: owner.lease,
      idle: owner.idle,
      maxEntries: owner.maxEntries,
      entries: owner.entries,
      age: owner.lease === 'off' || owner.renewed === 0 ? null : now - owner.renewed,
      lapsed: this.lapsed(owner.slot),
    }));
  }
}
