import { SluiceError } from '../base/errors.ts';

export type MemberKind = 'int' | 'pointer' | 'array' | 'struct' | 'union' | 'enum' | 'float' | 'other';

export interface MemberLayout {
  name: string;
  /** Bytes from the start of the structure. */
  offset: number;
  /** Bytes; 0 for what has none (a flexible array). */
  size: number;
  kind: MemberKind;
  /** Of integers. */
  signed: boolean;
  /** Elements of an array (of all dimensions together); 1 for anything else. */
  count: number;
  /** Bit fields: bits in the field and where they start from `offset`. */
  bits: { offset: number; size: number } | undefined;
  /** Structure of the member or of its elements. */
  layout: StructLayout | undefined;
}

export interface StructLayout {
  name: string;
  kind: 'struct' | 'union';
  size: number;
  /** Members of anonymous structures and unions stand in their place. */
  members: MemberLayout[];
}

interface RawMember {
  name: number;
  type: number;
  bits: number;
}

interface RawType {
  name: number;
  kind: number;
  kindFlag: boolean;
  /** Size in bytes, or the type that it refers to. */
  value: number;
  members: RawMember[];
  array: { type: number; count: number } | undefined;
  encoding: number;
}

const Kind = {
  int: 1,
  pointer: 2,
  array: 3,
  struct: 4,
  union: 5,
  enum: 6,
  typedef: 8,
  volatile: 9,
  const: 10,
  restrict: 11,
  proto: 13,
  variable: 14,
  section: 15,
  float: 16,
  declTag: 17,
  typeTag: 18,
  enum64: 19,
} as const;

const LOOKS_THROUGH: ReadonlySet<number> = new Set([
  Kind.typedef,
  Kind.volatile,
  Kind.const,
  Kind.restrict,
  Kind.typeTag,
]);

/** How deep types may nest before a file counts as damaged (they can refer to themselves). */
const MAX_DEPTH = 32;

/**
 * Type information of a compiled BPF object: the .BTF section of an ELF file (Documentation/bpf/btf.rst), for
 * little-endian targets. Throws OBJECT_INVALID for anything else, whatever the bytes.
 */
export class Btf {
  readonly #types: RawType[] = [];
  readonly #strings: Uint8Array;

  constructor(section: Uint8Array) {
    const view = new DataView(section.buffer, section.byteOffset, section.byteLength);
    if (section.length < 24 || view.getUint16(0, true) !== 0xeb9f) throw damaged('no BTF header');
    const header = view.getUint32(4, true);
    const types = slice(section, header + view.getUint32(8, true), view.getUint32(12, true));
    this.#strings = slice(section, header + view.getUint32(16, true), view.getUint32(20, true));
    // Type 0 is void.
    this.#types.push({
      name: 0,
      kind: 0,
      kindFlag: false,
      value: 0,
      members: [],
      array: undefined,
      encoding: 0,
    });
    readTypes(types, this.#types);
  }

  /** Every named structure and union. */
  structs(): StructLayout[] {
    return this.#types
      .filter((type) => (type.kind === Kind.struct || type.kind === Kind.union) && type.name !== 0)
      .map((type) => this.#layout(type, 0));
  }

  struct(name: string): StructLayout {
    const type = this.#types.find(
      (each) => (each.kind === Kind.struct || each.kind === Kind.union) && this.#text(each.name) === name,
    );
    if (type === undefined) throw new SluiceError('OBJECT_INVALID', `the object's BTF has no struct ${name}`);
    return this.#layout(type, 0);
  }

  /** Named enumerations (of 32 bits) that some type or variable of the object uses. */
  enums(): { name: string; values: { name: string; value: number }[] }[] {
    return this.#types
      .filter((type) => type.kind === Kind.enum && type.name !== 0)
      .map((type) => ({
        name: this.#text(type.name),
        values: type.members.map((member) => ({
          name: this.#text(member.name),
          // clang before 16 does not say whether they are signed; negative ones are likelier than such large ones.
          value: member.type | 0,
        })),
      }));
  }

  #layout(type: RawType, depth: number): StructLayout {
    if (depth > MAX_DEPTH) throw damaged('types nest too deep');
    const members = type.members.flatMap((member) => this.#member(type, member, depth));
    const kind = type.kind === Kind.union ? 'union' : 'struct';
    return { name: this.#text(type.name), kind, size: type.value, members };
  }

  #member(parent: RawType, raw: RawMember, depth: number): MemberLayout[] {
    // With the kind flag, the upper byte is the size of a bit field and the rest the offset in bits.
    const bitSize = parent.kindFlag ? raw.bits >>> 24 : 0;
    const bitOffset = parent.kindFlag ? raw.bits & 0xffffff : raw.bits;
    const offset = bitOffset >>> 3;
    let type = this.#resolve(raw.type);
    let count = 1;
    let isArray = false;
    for (let i = 0; type.kind === Kind.array && i < MAX_DEPTH; i++) {
      isArray = true;
      count *= type.array?.count ?? 0;
      type = this.#resolve(type.array?.type ?? 0);
    }
    const nested = type.kind === Kind.struct || type.kind === Kind.union;
    const layout = nested ? this.#layout(type, depth + 1) : undefined;
    if (raw.name === 0 && layout !== undefined) {
      return layout.members.map((inner) => ({ ...inner, offset: inner.offset + offset }));
    }
    return [
      {
        name: this.#text(raw.name),
        offset,
        size: count * sizeOf(type),
        kind: isArray ? 'array' : kindOf(type),
        signed: type.kind === Kind.int && (type.encoding & 1) !== 0,
        count,
        bits: bitSize === 0 ? undefined : { offset: bitOffset & 7, size: bitSize },
        layout,
      },
    ];
  }

  #resolve(id: number): RawType {
    let type = this.#types[id];
    for (let i = 0; type !== undefined && LOOKS_THROUGH.has(type.kind); i++) {
      if (i > MAX_DEPTH) throw damaged('a type refers to itself');
      type = this.#types[type.value];
    }
    if (type === undefined) throw damaged('a type refers to one that is not there');
    return type;
  }

  #text(offset: number): string {
    const end = this.#strings.indexOf(0, offset);
    if (offset >= this.#strings.length || end < 0) throw damaged('a name lies outside the file');
    return new TextDecoder().decode(this.#strings.subarray(offset, end));
  }
}

/** The BTF of an ELF file's bytes. */
export function readBtf(elf: Uint8Array): Btf {
  return new Btf(elfSection(elf, '.BTF'));
}

/** A section of a 64-bit little-endian ELF file. */
export function elfSection(elf: Uint8Array, name: string): Uint8Array {
  const view = new DataView(elf.buffer, elf.byteOffset, elf.byteLength);
  if (elf.length < 64 || view.getUint32(0, false) !== 0x7f454c46) throw damaged('it is not an ELF file');
  if (elf[4] !== 2 || elf[5] !== 1) throw damaged('it is not a 64-bit little-endian ELF file');
  const table = Number(view.getBigUint64(0x28, true));
  const entry = view.getUint16(0x3a, true);
  const count = view.getUint16(0x3c, true);
  const namesIndex = view.getUint16(0x3e, true);
  if (entry < 64 || namesIndex >= count) throw damaged('no section headers');
  slice(elf, table, entry * count);
  const section = (index: number): Uint8Array => {
    const at = table + index * entry;
    return slice(elf, Number(view.getBigUint64(at + 0x18, true)), Number(view.getBigUint64(at + 0x20, true)));
  };
  const names = section(namesIndex);
  for (let i = 0; i < count; i++) {
    const start = view.getUint32(table + i * entry, true);
    const end = names.indexOf(0, start);
    if (end >= 0 && new TextDecoder().decode(names.subarray(start, end)) === name) return section(i);
  }
  throw damaged(`no section ${name}`);
}

function readTypes(bytes: Uint8Array, types: RawType[]): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at + 12 <= bytes.length; ) {
    const info = view.getUint32(at + 4, true);
    const kind = (info >>> 24) & 0x1f;
    const vlen = info & 0xffff;
    const type: RawType = {
      name: view.getUint32(at, true),
      kind,
      kindFlag: info >>> 31 === 1,
      value: view.getUint32(at + 8, true),
      members: [],
      array: undefined,
      encoding: 0,
    };
    at += 12;
    const extra = extraBytes(kind, vlen);
    if (at + extra > bytes.length) throw damaged('a type is cut');
    if (kind === Kind.int) type.encoding = (view.getUint32(at, true) >>> 24) & 0xf;
    if (kind === Kind.array) {
      type.array = { type: view.getUint32(at, true), count: view.getUint32(at + 8, true) };
    }
    if (kind === Kind.struct || kind === Kind.union || kind === Kind.enum) {
      const step = kind === Kind.enum ? 8 : 12;
      for (let i = 0; i < vlen; i++) {
        const from = at + i * step;
        type.members.push({
          name: view.getUint32(from, true),
          type: view.getUint32(from + 4, true),
          bits: kind === Kind.enum ? 0 : view.getUint32(from + 8, true),
        });
      }
    }
    at += extra;
    types.push(type);
  }
}

/** Bytes that follow the 12 common ones. */
function extraBytes(kind: number, vlen: number): number {
  switch (kind) {
    case Kind.int:
    case Kind.variable:
    case Kind.declTag:
      return 4;
    case Kind.array:
      return 12;
    case Kind.struct:
    case Kind.union:
    case Kind.section:
    case Kind.enum64:
      return 12 * vlen;
    case Kind.enum:
    case Kind.proto:
      return 8 * vlen;
    default:
      if (kind === 0 || kind > Kind.enum64) throw damaged(`unknown kind of type ${kind}`);
      return 0;
  }
}

function sizeOf(type: RawType): number {
  if (type.kind === Kind.pointer) return 8;
  const sized: number[] = [Kind.int, Kind.struct, Kind.union, Kind.enum, Kind.enum64, Kind.float];
  return sized.includes(type.kind) ? type.value : 0;
}

const KINDS: Partial<Record<number, MemberKind>> = {
  [Kind.int]: 'int',
  [Kind.pointer]: 'pointer',
  [Kind.struct]: 'struct',
  [Kind.union]: 'union',
  [Kind.enum]: 'enum',
  [Kind.enum64]: 'enum',
  [Kind.float]: 'float',
};

function kindOf(type: RawType): MemberKind {
  return KINDS[type.kind] ?? 'other';
}

function slice(bytes: Uint8Array, offset: number, size: number): Uint8Array {
  if (!(offset >= 0 && size >= 0 && offset + size <= bytes.length))
    throw damaged('a part lies outside the file');
  return bytes.subarray(offset, offset + size);
}

function damaged(why: string): SluiceError {
  return new SluiceError('OBJECT_INVALID', `the BPF object's type information cannot be read: ${why}`, {
    help: 'build the objects anew with `npm run clean && npm run build`',
  });
}
