import type { SluiceError } from '../base/errors.ts';
import type { PacketRing } from '../kernel/index.ts';
import { Checksum, Packet, type PacketSink } from '../packet/packet.ts';
import type { LiveSource, SourceCounts } from './source.ts';

// struct tpacket_block_desc and tpacket3_hdr (linux/if_packet.h), in 32-bit words or bytes as they are read.
const BLOCK_STATUS = 8;
const BLOCK_PACKETS = 12;
const BLOCK_FIRST = 16;
const NEXT = 0;
const SEC = 4;
const NSEC = 8;
const SNAPLEN = 12;
const LEN = 16;
const STATUS = 20;
const MAC = 24;
const VLAN_TCI = 32;
/** sockaddr_ll stands behind the aligned header. */
const PKTTYPE = 48 + 10;

const TP_STATUS_KERNEL = 0;
const TP_STATUS_USER = 1;
const TP_STATUS_CSUMNOTREADY = 8;
const TP_STATUS_VLAN_VALID = 16;
const TP_STATUS_CSUM_VALID = 128;
const PACKET_OUTGOING = 4;
const TAG_BYTES = 4;

/**
 * Walks a TPACKET_V3 ring: blocks that the kernel has handed over, packet by packet, without an object or a
 * copy per packet. `sequence` numbers the blocks since the start; it is what the hand-off of a flow waits on.
 */
export class AfPacketSource implements LiveSource {
  readonly name: string;
  packets = 0;
  bytes = 0;
  readonly problem: SluiceError | undefined = undefined;
  /** Blocks handed back to the kernel so far, which is also the number of the block that is next. */
  sequence = 0;

  readonly #ring: PacketRing;
  readonly #words: Int32Array;
  readonly #halves: Uint16Array;
  readonly #packet = new Packet();
  readonly #blockSize: number;
  readonly #blockCount: number;
  #next = 0;
  #closed = false;

  constructor(ring: PacketRing, name: string) {
    this.name = name;
    this.#ring = ring;
    this.#blockSize = ring.blockSize;
    this.#blockCount = ring.blockCount;
    this.#words = new Int32Array(ring.memory);
    this.#halves = new Uint16Array(ring.memory);
    this.#packet.u8 = new Uint8Array(ring.memory);
  }

  /** Packets, the present one among them. */
  get position(): number {
    return this.packets;
  }

  counts(): SourceCounts {
    return this.#ring.stats();
  }

  onReadable(callback: (errno: number) => void): void {
    this.#ring.onReadable(callback);
  }

  filterBy(program: { readonly fd: number }): void {
    this.#ring.filterBy(program);
  }

  stopReceiving(): void {
    this.#ring.stopReceiving();
  }

  /** Hands out at least `maxPackets` when so many are there: whole blocks, each given back when it is done. */
  drain(sink: PacketSink, maxPackets: number): boolean {
    if (this.#closed) return false;
    const until = this.packets + maxPackets;
    while (this.packets < until) {
      const at = this.#next * this.#blockSize;
      const status = (at + BLOCK_STATUS) >>> 2;
      // The load of the status comes before the loads of what it guards, and the store after them.
      if ((Atomics.load(this.#words, status) & TP_STATUS_USER) === 0) break;
      this.#block(at, sink);
      // A ring that was full opens the block only with the next packet: until then it holds none.
      this.#words[(at + BLOCK_PACKETS) >>> 2] = 0;
      Atomics.store(this.#words, status, TP_STATUS_KERNEL);
      this.sequence++;
      this.#next = this.#next + 1 === this.#blockCount ? 0 : this.#next + 1;
    }
    return true;
  }

  /**
   * The number of the block that the kernel is filling now. Once `sequence` is greater, everything that had
   * reached the ring when this was called has been handed out.
   */
  openBlock(): number {
    let ahead = 0;
    let index = this.#next;
    while (ahead < this.#blockCount) {
      if ((Atomics.load(this.#words, (index * this.#blockSize + BLOCK_STATUS) >>> 2) & TP_STATUS_USER) === 0)
        break;
      ahead++;
      index = index + 1 === this.#blockCount ? 0 : index + 1;
    }
    return this.sequence + ahead;
  }

  /**
   * How many packets had reached the ring when this was called, handed out or not: the kernel counts those of the block
   * that it is filling as it goes. Not to be called from a sink.
   */
  received(): number {
    let total = this.packets;
    let index = this.#next;
    for (let ahead = 0; ahead < this.#blockCount; ahead++) {
      const at = index * this.#blockSize;
      // The status first: a block that is handed over meanwhile has its last count.
      const status = Atomics.load(this.#words, (at + BLOCK_STATUS) >>> 2);
      total += Atomics.load(this.#words, (at + BLOCK_PACKETS) >>> 2) >>> 0;
      if ((status & TP_STATUS_USER) === 0) break;
      index = index + 1 === this.#blockCount ? 0 : index + 1;
    }
    return total;
  }

  #block(at: number, sink: PacketSink): void {
    const words = this.#words;
    const halves = this.#halves;
    const p = this.#packet;
    const count = words[(at + BLOCK_PACKETS) >>> 2] >>> 0;
    let header = at + words[(at + BLOCK_FIRST) >>> 2];
    for (let i = 0; i < count; i++) {
      const w = header >>> 2;
      const status = words[w + (STATUS >>> 2)];
      p.offset = header + halves[(header + MAC) >>> 1];
      p.caplen = words[w + (SNAPLEN >>> 2)];
      p.wirelen = words[w + (LEN >>> 2)];
      p.ts = (words[w + (SEC >>> 2)] >>> 0) + words[w + (NSEC >>> 2)] * 1e-9;
      // The kernel takes the outermost tag out of every frame, 802.1Q or 802.1ad (TP_STATUS_VLAN_TPID_VALID tells which:
      // to a connection they are the same): it was on the wire, and is the first one to the decoder.
      const tagged = (status & TP_STATUS_VLAN_VALID) !== 0;
      p.vlanTci = tagged ? words[w + (VLAN_TCI >>> 2)] & 0xffff : -1;
      p.checksum =
        (status & TP_STATUS_CSUMNOTREADY) !== 0
          ? Checksum.notReady
          : (status & TP_STATUS_CSUM_VALID) !== 0
            ? Checksum.valid
            : Checksum.unknown;
      p.outgoing = p.u8[header + PKTTYPE] === PACKET_OUTGOING;
      this.packets++;
      this.bytes += tagged ? p.wirelen + TAG_BYTES : p.wirelen;
      sink(p);
      header += words[w + (NEXT >>> 2)];
    }
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#ring.close();
  }
}
