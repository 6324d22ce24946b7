import { array, assert, constantFrom, nat, oneof, option, property, record, uint8Array } from 'fast-check';
import { expect } from 'vitest';
import { writeGateKey } from '../../src/flow/keys.ts';
import { keyText } from '../../src/gate/flow-key.ts';
import { type BpfObject, loadObject } from '../../src/kernel/index.ts';
import { Decoded, Decoder } from '../../src/packet/decode.ts';
import { describe as layers } from '../../src/packet/describe.ts';
import { Packet } from '../../src/packet/packet.ts';
import { bpfObject } from '../support/kernel.ts';
import { PACKET_TABLE } from './packet-table.ts';
import { type GateKey, TestGate, XDP_DROP, XDP_PASS } from './support.ts';

const IPPROTO_ESP = 50;
const IPPROTO_SCTP = 132;
/** Where the protocol is in an IPv6 key. */
const PROTOCOL6 = 36;
/** Longer than the kernel keeps in one piece. */
const MANY_BUFFERS = 9000;
/** BPF_PROG_TEST_RUN takes no shorter frame. */
const LEAST = 14;

/** Bytes that mean something somewhere: types, protocols, versions, lengths at their limits. */
const TELLING = [
  0x00, 0x01, 0x06, 0x08, 0x11, 0x21, 0x2b, 0x2c, 0x32, 0x33, 0x3a, 0x3c, 0x45, 0x4f, 0x60, 0x81, 0x84, 0x86,
  0x88, 0x91, 0xa8, 0xdd, 0xff,
];

const byte = oneof(nat(255), constantFrom(...TELLING));
const change = record({ at: nat(110), byte });
const random = oneof(
  uint8Array({ minLength: LEAST, maxLength: 200 }),
  uint8Array({ minLength: LEAST, maxLength: MANY_BUFFERS, size: 'max' }),
);
const mutated = record({
  row: nat(PACKET_TABLE.length - 1),
  changes: array(change, { maxLength: 4 }),
  cut: option(nat(140), { freq: 4 }),
  behind: uint8Array({ maxLength: 20 }),
  doubled: option(record({ from: nat(60), bytes: nat(60) }), { freq: 8 }),
}).map(({ row, changes, cut, behind, doubled }) => {
  let bytes = Uint8Array.of(...PACKET_TABLE[row].bytes, ...behind);
  for (const { at, byte } of changes) if (at < bytes.length) bytes[at] = byte;
  if (doubled !== null) {
    // A header once more, or a piece of one.
    const { from, bytes: length } = doubled;
    bytes = Uint8Array.of(...bytes.subarray(0, from + length), ...bytes.subarray(from));
  }
  return bytes.slice(0, Math.max(LEAST, bytes.length - (cut ?? 0)));
});

/** A frame, of random bytes or a packet of the table with some of them changed. */
export const anyFrame = oneof({ arbitrary: random, weight: 1 }, { arbitrary: mutated, weight: 9 });

/**
 * A gate with the flows of the table in it. Whatever it is given, it drops nothing that the decoder in TypeScript does not
 * take for one of them, and each frame is in the books once.
 */
export class MutationGate {
  readonly #gate = new TestGate();
  readonly #rule: BpfObject | undefined;
  readonly #flows = new Map<string, GateKey>();
  readonly #decoder = new Decoder(false);
  readonly #frame = new Packet();
  readonly #words = new Int32Array(12);
  #frames = 0;
  #bytes = 0;
  /** What entries had counted that have ended. */
  #counted = 0;
  dropped = 0;

  /** `behindRules`: in front of shunting is a rule that matches nothing. */
  constructor(behindRules: boolean) {
    if (behindRules) {
      const { gate } = this.#gate;
      const reuseMaps = { rules: gate.table('rules'), scratch: gate.table('scratch') };
      this.#rule = loadObject(bpfObject('test_rule'), { reuseMaps });
      gate.setRules(this.#rule.program('test_rule'));
    }
    for (const { key, vlanKey } of PACKET_TABLE) {
      // The decoder, as Zeek, knows no flow of ESP over IPv6.
      const esp = key.family === 6 && key.bytes[PROTOCOL6] === IPPROTO_ESP;
      if (!vlanKey && !esp) this.#flows.set(keyText(key.bytes), key);
    }
    for (const key of this.#flows.values()) this.#gate.shunt(key);
  }

  check(bytes: Uint8Array): void {
    const { action, verdict } = this.#gate.run(bytes);
    this.#frames++;
    this.#bytes += bytes.length;
    expect(verdict).not.toBe('several');
    expect(verdict).not.toBe('aborted');
    expect(action).toBe(verdict === 'shunted' ? XDP_DROP : XDP_PASS);
    if (verdict !== 'shunted' && verdict !== 'passClose') return;
    const key = this.#flowOf(bytes);
    expect(key, `${verdict}, but it is none of the flows: ${layers(bytes)}`).toBeDefined();
    if (verdict === 'shunted') this.dropped++;
    else this.#again(key as GateKey);
  }

  /** Everything has been counted once, and by the entries too. */
  finish(): void {
    for (const key of this.#flows.values()) this.#counted += this.#gate.read(key)?.pkts ?? 0;
    const { seen, passed, shunted, aborted, reasons, ...others } = this.#gate.gate.ledger();
    expect(seen).toEqual({ pkts: this.#frames, bytes: this.#bytes });
    expect({ pkts: passed.pkts + shunted.pkts, bytes: passed.bytes + shunted.bytes }).toEqual(seen);
    const sum = Object.values(reasons).reduce(
      (all, { pkts, bytes }) => [all[0] + pkts, all[1] + bytes],
      [0, 0],
    );
    expect(sum).toEqual([passed.pkts, passed.bytes]);
    for (const count of [aborted, ...Object.values(others)]) expect(count).toEqual({ pkts: 0, bytes: 0 });
    expect(shunted.pkts).toBe(this.dropped);
    expect(this.#counted).toBe(this.dropped);
  }

  /** The flow that the frame belongs to, when it is one of those that are shunted. */
  #flowOf(bytes: Uint8Array): GateKey | undefined {
    const d = this.#decoder;
    this.#frame.u8 = bytes;
    this.#frame.caplen = this.#frame.wirelen = bytes.length;
    if (d.decode(this.#frame) !== Decoded.ok) return undefined;
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    // Zeek has no ports for it.
    const [from, to] =
      d.protocol === IPPROTO_SCTP
        ? [view.getUint16(d.transport), view.getUint16(d.transport + 2)]
        : [d.sourcePort, d.destinationPort];
    const family = d.family === 4 ? 4 : 16;
    writeGateKey(this.#words, family, bytes, d.source, d.destination, from, to, d.protocol, 0, 0);
    return this.#flows.get(keyText(new Uint8Array(this.#words.buffer, 0, family === 4 ? 16 : 48)));
  }

  #again(key: GateKey): void {
    this.#counted += this.#gate.read(key)?.pkts ?? 0;
    this.#gate.client.remove(key.family, key.bytes);
    this.#gate.shunt(key);
  }

  [Symbol.dispose](): void {
    this.#rule?.close();
    this.#gate[Symbol.dispose]();
  }
}

/** Runs so many frames through it. A failure says its seed and the shortest frame that shows it. */
export function mutate(frames: number, behindRules = false): void {
  using gate = new MutationGate(behindRules);
  assert(
    property(anyFrame, (bytes) => gate.check(bytes)),
    { numRuns: frames },
  );
  gate.finish();
  // It was not only passing things on.
  expect(gate.dropped).toBeGreaterThan(frames / 20);
}
