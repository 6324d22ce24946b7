/** Classic BPF to eBPF: instructions, assembler, disassembler, interpreter, compiler (docs/compiler.md). Pure. */
export {
  type AssembleOptions,
  assemble,
  goto,
  type Item,
  jumpTo,
  label,
  plain,
  wide,
} from './assembler.ts';
export {
  Ancillary,
  ancillaryName,
  CBPF_MAX,
  CBPF_WORDS,
  Cbpf,
  type CbpfInstruction,
  type CbpfProgram,
  decodeCbpf,
  encodeCbpf,
  SkfOffset,
} from './cbpf/instruction.ts';
export { type Dialect, type InterpretOptions, interpretCbpf } from './cbpf/interpret.ts';
export { cbpfLine, cbpfText } from './cbpf/text.ts';
export { validateCbpf } from './cbpf/validate.ts';
export { compile } from './compile.ts';
export { disassemble, instructionText } from './disassembler.ts';
export { compileFragment } from './fragment.ts';
export * from './instruction.ts';
export {
  type CompileOptions,
  type EbpfProgram,
  type Fragment,
  type FragmentOptions,
  type FragmentRegisters,
  OPTIONAL_PASSES,
  type OptionalPass,
  type Passes,
  TEST_HEADER,
  XDP_REACH,
} from './options.ts';
