import { Decoded, Decoder } from '../packet/decode.ts';
import type { Packet } from '../packet/packet.ts';
import { KEY4_BYTES, KEY6_BYTES, keyWord, writeGateKey } from './keys.ts';
import type { FlowTable } from './table.ts';
import type { Side } from './types.ts';

/** One packet decoded, with the key of its flow: what of its accounting depends on nothing that came before. */
export class Sighting {
  readonly decoder: Decoder;
  readonly key = new Int32Array(KEY6_BYTES / 4);
  verdict: Decoded = Decoded.ok;
  /** The rest is valid when the verdict is ok. Words of the key: 4 or 12. */
  size = 4;
  hash = 0;
  side: Side = 0;
  readonly #table: FlowTable;
  readonly #vlanInKey: boolean;

  constructor(table: FlowTable, checksums: boolean, vlanInKey: boolean) {
    this.decoder = new Decoder(checksums);
    this.#table = table;
    this.#vlanInKey = vlanInKey;
  }

  /** Looks at a frame; `vxlan` and `geneve` are the tunnel ids for its key. */
  see(packet: Packet, vxlan: number, geneve: number): void {
    this.verdict = this.decoder.decode(packet);
    if (this.verdict === Decoded.ok) this.#identify(packet.u8, vxlan, geneve);
  }

  /** Looks at a datagram that was put together from fragments, of which this saw the last one. */
  seeWhole(packet: Packet, vxlan: number, geneve: number): void {
    this.verdict = this.decoder.decodeWhole(packet);
    if (this.verdict === Decoded.ok) this.#identify(packet.u8, vxlan, geneve);
  }

  #identify(u8: Uint8Array, vxlan: number, geneve: number): void {
    const decoder = this.decoder;
    this.side = writeGateKey(
      this.key,
      decoder.family === 4 ? 4 : 16,
      u8,
      decoder.source,
      decoder.destination,
      decoder.sourcePort,
      decoder.destinationPort,
      this.#vlanInKey ? keyWord(decoder.protocol, decoder.vlan, decoder.innerVlan) : decoder.protocol,
      vxlan,
      geneve,
    );
    this.size = (decoder.family === 4 && vxlan === 0 && geneve === 0 ? KEY4_BYTES : KEY6_BYTES) / 4;
    this.hash = this.#table.hash(this.key, 0, this.size);
  }
}
