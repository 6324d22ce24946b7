import { Checksum, type Packet, Tunnelled } from './packet.ts';

/** Frames that a block has room for. */
export const BLOCK_PACKETS = 256;
/** Words of a frame among the places: offset in `u8`, bytes captured, bytes on the wire, link type. */
export const PLACE_WORDS = 4;

/** The frames of a block, one after the other. */
export type BlockSink = (block: PacketBlock) => void;

/**
 * Several frames of one piece of memory in columns, as files have them: of no VLAN, checksum or tunnel is anything known
 * beside the bytes. Used again for the next ones.
 */
export class PacketBlock {
  u8: Uint8Array = new Uint8Array(0);
  count = 0;
  readonly places = new Int32Array(PLACE_WORDS * BLOCK_PACKETS);
  /** Seconds since the epoch. */
  readonly times = new Float64Array(BLOCK_PACKETS);

  /** Adds a frame behind the others, if it can stand among them. */
  add(packet: Packet): boolean {
    const { count } = this;
    if (count === BLOCK_PACKETS || (count > 0 && packet.u8 !== this.u8)) return false;
    if (packet.vlanTci >= 0 || packet.checksum !== Checksum.unknown || packet.tunnel !== Tunnelled.none)
      return false;
    this.u8 = packet.u8;
    const at = PLACE_WORDS * count;
    this.places[at] = packet.offset;
    this.places[at + 1] = packet.caplen;
    this.places[at + 2] = packet.wirelen;
    this.places[at + 3] = packet.linkType;
    this.times[count] = packet.ts;
    this.count = count + 1;
    return true;
  }

  /** Moves a cursor to a frame. */
  show(index: number, packet: Packet): void {
    const at = PLACE_WORDS * index;
    packet.u8 = this.u8;
    packet.offset = this.places[at];
    packet.caplen = this.places[at + 1];
    packet.wirelen = this.places[at + 2] >>> 0;
    packet.linkType = this.places[at + 3];
    packet.ts = this.times[index];
    packet.vlanTci = -1;
    packet.checksum = Checksum.unknown;
    packet.outgoing = false;
    packet.tunnel = Tunnelled.none;
    packet.vni = -1;
    packet.outerVni = -1;
    packet.optionsAt = 0;
    packet.optionsBytes = 0;
  }
}
