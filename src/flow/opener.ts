import { IpProto } from '../packet/decode.ts';
import type { Packet } from '../packet/packet.ts';
import { endpointOf } from './endpoint.ts';
import type { FlowServices } from './flow-services.ts';
import type { Histories } from './history.ts';
import {
  C_UID,
  C_VLANS,
  CF_ATTEMPT,
  CF_EXPIRE,
  CF_START,
  COLD_DOUBLES,
  COLD_WORDS,
  DOUBLES,
  EP_F_PAYLOAD,
  F_DEADLINE,
  F_LAST,
  FLAGS,
  PROTOCOL_SHIFT,
  WORDS,
} from './layout.ts';
import { portSet } from './ports.ts';
import { flipped, origOf, peerSide, portOf } from './record.ts';
import type { FlowSettings } from './settings.ts';
import type { Sighting } from './sighting.ts';
import type { FlowTable } from './table.ts';
import type { TcpTracker } from './tcp.ts';
import { setTimeoutClass, Timeout } from './timeouts.ts';
import type { UidSource } from './uid.ts';

/** One byte a port. */
export const DNS = portSet([53, 137, 5353, 5355]);

/** Fills in the record of a flow that begins. */
export class Opener {
  readonly #table: FlowTable;
  readonly #settings: FlowSettings;
  readonly #histories: Histories;
  readonly #tcp: TcpTracker;
  readonly #services: FlowServices;
  readonly #uids: UidSource;

  constructor(
    table: FlowTable,
    settings: FlowSettings,
    histories: Histories,
    tcp: TcpTracker,
    services: FlowServices,
    uids: UidSource,
  ) {
    this.#table = table;
    this.#settings = settings;
    this.#histories = histories;
    this.#tcp = tcp;
    this.#services = services;
    this.#uids = uids;
  }

  /** The packet begins the flow in this slot, which has its key and nothing else. It has no timer yet. */
  open(slot: number, packet: Packet, { decoder, side }: Sighting, now: number): void {
    const { protocol } = decoder;
    const { words, doubles, cold, coldDoubles } = this.#table;
    const at = slot * WORDS;
    const coldAt = slot * COLD_WORDS;
    const timers = slot * COLD_DOUBLES;
    words[at + FLAGS] = words[at + FLAGS] | (protocol << PROTOCOL_SHIFT);
    cold[coldAt + C_VLANS] = decoder.vlan | (decoder.innerVlan << 16);
    for (let i = 0; i < 3; i++) cold[coldAt + C_UID + i] = this.#uids.next();
    doubles[slot * DOUBLES + F_LAST] = packet.ts;
    doubles[slot * DOUBLES + F_DEADLINE] = Number.POSITIVE_INFINITY;
    coldDoubles[timers + CF_START] = packet.ts;
    coldDoubles[timers + CF_ATTEMPT] = Number.POSITIVE_INFINITY;
    coldDoubles[timers + CF_EXPIRE] = Number.POSITIVE_INFINITY;
    if (side === 1) flipped(this.#table, slot);
    if (this.#settings.directions.beginsAtServer(decoder, packet.u8)) {
      flipped(this.#table, slot);
      this.#histories.flipped(slot);
    }
    switch (protocol) {
      case IpProto.tcp:
        this.#tcp.open(slot);
        setTimeoutClass(words, slot, Timeout.tcpHandshake);
        if (this.#settings.services) this.#services.begin(slot, now);
        return;
      case IpProto.udp:
        setTimeoutClass(words, slot, Timeout.udp);
        if (this.#settings.dns && DNS[portOf(this.#table, slot, peerSide(origOf(this.#table, slot)))] === 1)
          coldDoubles[timers + CF_EXPIRE] = packet.ts + this.#settings.timeouts.dns;
        if (this.#settings.services) this.#services.begin(slot, now);
        break;
      case IpProto.icmp:
      case IpProto.icmpv6:
        setTimeoutClass(words, slot, Timeout.icmp);
        break;
      default:
        setTimeoutClass(words, slot, Timeout.other);
        break;
    }
    doubles[(endpointOf(slot, 0) >>> 1) + EP_F_PAYLOAD] = -1;
    doubles[(endpointOf(slot, 1) >>> 1) + EP_F_PAYLOAD] = -1;
  }
}
