import { Ancillary, CBPF_WORDS, Cbpf, type CbpfProgram, SkfOffset } from './instruction.ts';

/**
 * Whose rules count where the two disagree (docs/compiler.md): libpcap's interpreter, which the compiler follows too,
 * or the kernel's own classic filters on a socket.
 */
export type Dialect = 'libpcap' | 'kernel';

export interface InterpretOptions {
  /** Length on the wire, where the packet was cut; default: that of the packet. */
  wireLength?: number;
  dialect?: Dialect;
  /** Index of the interface, for the ancillary load of it. */
  interfaceIndex?: number;
}

/** Bytes from `at` as one number in network order, or -1 when the packet ends before. */
function read(packet: Uint8Array, at: number, size: number): number {
  if (at < 0 || at + size > packet.length) return -1;
  let value = 0;
  for (let index = 0; index < size; index++) value = value * 256 + packet[at + index];
  return value;
}

function etherType(packet: Uint8Array): number {
  const type = read(packet, 12, 2);
  if (type < 0 || type >= 0x600) return type;
  // IEEE 802.3 by the length, Novell's raw form by what follows (eth_type_trans in net/ethernet/eth.c).
  return read(packet, 14, 2) === 0xffff ? 1 : 4;
}

/** What XDP knows of ancillary data (docs/compiler.md); undefined: nothing, and the compiler refuses it. */
function ancillary(packet: Uint8Array, load: number, interfaceIndex: number): number | undefined {
  switch (load) {
    case Ancillary.PROTOCOL:
      return etherType(packet);
    case Ancillary.IFINDEX:
      return interfaceIndex;
    case Ancillary.HATYPE:
      return 1;
    case Ancillary.VLAN_TAG:
    case Ancillary.VLAN_TAG_PRESENT:
    case Ancillary.VLAN_TPID:
      return 0;
    default:
      return undefined;
  }
}

/** Where a load with offset `k` begins: SKF_LL_OFF and SKF_NET_OFF count from the Ethernet and the network header. */
export function plainOffset(k: number): number {
  if (k >= SkfOffset.NET && k < SkfOffset.AD) return k - SkfOffset.NET + 14;
  return k >= SkfOffset.LL && k < SkfOffset.NET ? k - SkfOffset.LL : k;
}

const shift = (value: number, by: number, dialect: Dialect, left: boolean): number => {
  if (by > 31 && dialect === 'libpcap') return 0;
  return (left ? value << by : value >>> by) >>> 0;
};

/**
 * What a valid program returns for an Ethernet frame, as an unsigned number; 0 is no match. The reference for
 * everything that is compiled: written to be read, not to be fast.
 */
export function interpretCbpf(
  program: CbpfProgram,
  packet: Uint8Array,
  options: InterpretOptions = {},
): number {
  const { wireLength = packet.length, dialect = 'libpcap', interfaceIndex = 0 } = options;
  const memory = new Uint32Array(CBPF_WORDS);
  let a = 0;
  let x = 0;
  for (let at = 0; at < program.length; at++) {
    const { code, jt, jf, k: raw } = program[at];
    const k = raw >>> 0;
    const size = code & Cbpf.B ? 1 : code & Cbpf.H ? 2 : 4;
    const operand = code & Cbpf.X ? x : k;
    switch (code & 0x07) {
      case Cbpf.LD: {
        const mode = code & 0xe0;
        let value: number;
        if (mode === Cbpf.IMM) value = k;
        else if (mode === Cbpf.LEN) value = wireLength;
        else if (mode === Cbpf.MEM) value = memory[k];
        else if (mode === Cbpf.IND) {
          const offset = x + plainOffset(k);
          value = read(packet, dialect === 'kernel' ? offset | 0 : offset, size);
        } else if (k === SkfOffset.AD + Ancillary.ALU_XOR_X) value = (a ^ x) >>> 0;
        else if (k >= SkfOffset.AD) {
          const known = ancillary(packet, k - SkfOffset.AD, interfaceIndex);
          if (known === undefined) throw new RangeError('ancillary load that XDP does not know');
          value = known;
        } else value = read(packet, plainOffset(k), size);
        if (value < 0) return 0;
        a = value;
        break;
      }
      case Cbpf.LDX:
        if ((code & 0xe0) === Cbpf.MSH) {
          const value = read(packet, plainOffset(k), 1);
          if (value < 0) return 0;
          x = (value & 0xf) * 4;
        } else if ((code & 0xe0) === Cbpf.LEN) x = wireLength;
        else x = (code & 0xe0) === Cbpf.MEM ? memory[k] : k;
        break;
      case Cbpf.ST:
        memory[k] = a;
        break;
      case Cbpf.STX:
        memory[k] = x;
        break;
      case Cbpf.ALU:
        switch (code & 0xf0) {
          case Cbpf.ADD:
            a = (a + operand) >>> 0;
            break;
          case Cbpf.SUB:
            a = (a - operand) >>> 0;
            break;
          case Cbpf.MUL:
            a = Math.imul(a, operand) >>> 0;
            break;
          case Cbpf.DIV:
            if (operand === 0) return 0;
            a = Math.floor(a / operand);
            break;
          case Cbpf.MOD:
            if (operand === 0) return 0;
            a %= operand;
            break;
          case Cbpf.OR:
            a = (a | operand) >>> 0;
            break;
          case Cbpf.AND:
            a = (a & operand) >>> 0;
            break;
          case Cbpf.XOR:
            a = (a ^ operand) >>> 0;
            break;
          case Cbpf.LSH:
            a = shift(a, operand, dialect, true);
            break;
          case Cbpf.RSH:
            a = shift(a, operand, dialect, false);
            break;
          default:
            a = -a >>> 0;
        }
        break;
      case Cbpf.JMP: {
        const operation = code & 0xf0;
        if (operation === Cbpf.JA) {
          at += k;
          break;
        }
        let holds = a >= operand;
        if (operation === Cbpf.JEQ) holds = a === operand;
        else if (operation === Cbpf.JGT) holds = a > operand;
        else if (operation === Cbpf.JSET) holds = (a & operand) !== 0;
        at += holds ? jt : jf;
        break;
      }
      case Cbpf.RET:
        return code & Cbpf.A ? a : k;
      default:
        if ((code & 0xf8) === Cbpf.TXA) a = x;
        else x = a;
    }
  }
  throw new RangeError('the program was not validated');
}
