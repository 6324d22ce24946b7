import { type FlowEngine, FlowFlag } from '../flow/index.ts';
import type { ConnRecord, FlowAddress, Side, TlsInfo } from '../flow/types.ts';
import { versionName } from '../log/tls-names.ts';
import type { FlowFacts } from '../policy/index.ts';

/** Country and autonomous system of an address; for lack of a database nobody knows. */
export interface Geography {
  country(address: FlowAddress): string | undefined;
  asn(address: FlowAddress): number;
}

const NOWHERE: Geography = { country: () => undefined, asn: () => 0 };

/** Shows one flow of an engine to policies: a cursor, as decisions are rare but flows are many. */
export class EngineFacts implements FlowFacts {
  readonly #engine: FlowEngine;
  readonly #geography: Geography;
  #slot = 0;
  #now = 0;
  #orig: Side = 0;
  #record: ConnRecord | undefined = undefined;

  constructor(engine: FlowEngine, geography: Geography = NOWHERE) {
    this.#engine = engine;
    this.#geography = geography;
  }

  /** The flow in `slot` at packet time `now`. */
  at(slot: number, now: number): this {
    this.#slot = slot;
    this.#now = now;
    this.#orig = this.#engine.origSide(slot);
    this.#record = undefined;
    return this;
  }

  get #resp(): Side {
    return this.#orig === 0 ? 1 : 0;
  }

  /** For what few policies ask for. */
  #whole(): ConnRecord {
    this.#record ??= this.#engine.record(this.#slot);
    return this.#record;
  }

  #tls(): TlsInfo | undefined {
    return this.#engine.tls(this.#slot);
  }

  get protocol(): number {
    return this.#engine.proto(this.#slot);
  }

  get origPort(): number {
    return this.#engine.port(this.#slot, this.#orig);
  }

  get respPort(): number {
    return this.#engine.port(this.#slot, this.#resp);
  }

  get orig(): FlowAddress {
    return this.#engine.address(this.#slot, this.#orig);
  }

  get resp(): FlowAddress {
    return this.#engine.address(this.#slot, this.#resp);
  }

  get vlan(): number {
    return this.#whole().vlan ?? -1;
  }

  get innerVlan(): number {
    return this.#whole().innerVlan ?? -1;
  }

  get vni(): number {
    const { vxlanVni, geneveVni } = this.#whole();
    return geneveVni ?? vxlanVni ?? -1;
  }

  get services(): readonly string[] {
    return this.#engine.content.services(this.#slot)?.split(',') ?? [];
  }

  get learning(): boolean {
    return this.#engine.content.isLearning(this.#slot);
  }

  get tlsEstablished(): boolean {
    return (this.#engine.flags(this.#slot) & FlowFlag.tlsEstablished) !== 0;
  }

  get tlsResumed(): boolean {
    return this.#tls()?.resumed ?? false;
  }

  get tlsVersion(): string | undefined {
    const version = this.#tls()?.version ?? 0;
    return version === 0 ? undefined : versionName(version);
  }

  get serverName(): string | undefined {
    return this.#tls()?.serverName;
  }

  get alpn(): string | undefined {
    return this.#tls()?.alpn;
  }

  get ja3(): string | undefined {
    return this.#tls()?.ja3;
  }

  get ja4(): string | undefined {
    return this.#tls()?.ja4;
  }

  get httpHost(): string | undefined {
    return this.#engine.content.host(this.#slot);
  }

  get sshEncrypted(): boolean {
    return (this.#engine.flags(this.#slot) & FlowFlag.sshEncrypted) !== 0;
  }

  get opaque(): boolean {
    return this.#engine.content.isOpaque(this.#slot);
  }

  get dnsName(): string | undefined {
    return this.#engine.dnsName(this.#slot);
  }

  get origPackets(): number {
    return this.#engine.packets(this.#slot, this.#orig);
  }

  get respPackets(): number {
    return this.#engine.packets(this.#slot, this.#resp);
  }

  get origBytes(): number {
    return this.#engine.ipBytes(this.#slot, this.#orig);
  }

  get respBytes(): number {
    return this.#engine.ipBytes(this.#slot, this.#resp);
  }

  get duration(): number {
    return Math.max(0, this.#now - this.#engine.startTime(this.#slot));
  }

  get establishedPackets(): number {
    const at = this.#engine.content.establishedAt(this.#slot);
    return at === undefined ? -1 : this.origPackets + this.respPackets - at;
  }

  country(side: 'orig' | 'resp'): string | undefined {
    return this.#geography.country(this[side]);
  }

  asn(side: 'orig' | 'resp'): number {
    return this.#geography.asn(this[side]);
  }
}
