import { SluiceError } from '../base/errors.ts';
import { type BpfMap, type BpfObject, type BpfProgram, errnoName, programInfo } from '../kernel/index.ts';
import { captureState } from './cap-slots.ts';
import { HookSlot, RulesSlot } from './layout.ts';

/** Maps through which other programs take part; programs in them refer to each other's, so they stay together. */
export const SLOT_MAPS = ['hook', 'next', 'rules', 'scratch'] as const;

const EINVAL = 22;

/** A program that sits in a slot. */
export interface Occupant {
  id: number;
  name: string;
}

function keyOf(index: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(index).buffer);
}

/** Who is in a slot of a program array. */
export function occupant(map: BpfMap, index: number): Occupant | undefined {
  const value = new Uint32Array(1);
  if (!map.get(keyOf(index), new Uint8Array(value.buffer))) return undefined;
  const [id = 0] = value;
  try {
    return { id, name: programInfo(id).name };
  } catch {
    return { id, name: '' };
  }
}

/**
 * Puts a program into a slot, or clears it. Packets go on through what was there before or through what is there now.
 * @throws SluiceError PROGRAM_UNFIT when the kernel does not let the gate go on to this program
 */
export function occupy(map: BpfMap, index: number, program: BpfProgram | undefined): void {
  if (program === undefined) {
    map.delete(keyOf(index));
    return;
  }
  const result = map.trySet(keyOf(index), keyOf(program.fd));
  if (result === 0) return;
  if (result === -EINVAL) {
    throw new SluiceError('PROGRAM_UNFIT', `the gate cannot go on to program ${program.name}`, {
      help: 'it has to be an XDP program in section xdp.frags (behind libxdp: in section xdp) that was loaded with expected_attach_type 0 (stock libbpf sets another one: clear it with bpf_program__set_expected_attach_type before loading)',
    });
  }
  throw new SluiceError('KERNEL_CALL', `put program ${program.name} into slot ${index} of ${map.name}`, {
    cause: errnoName(-result),
  });
}

/**
 * The gate's own programs that rules and the gate itself go on to, as many of them as it has. Those of an earlier object over the
 * same tables do the same.
 */
export function installOwn(rules: BpfMap, object: BpfObject): void {
  occupy(rules, RulesSlot.shunt, object.programs.get('sluice_shunt'));
  occupy(rules, RulesSlot.exit, object.programs.get('sluice_exit'));
  occupy(rules, RulesSlot.inner, object.programs.get('sluice_inner'));
}

/** What `gate status` tells of the slots. */
export interface SlotStatus {
  rules: Occupant | null;
  /** `reached` false: somebody else's capture sits in the hook's pass slot, which packets go on to instead. */
  next: (Occupant & { reached: boolean }) | null;
  /** Actions with a capture on them. */
  hook: ('aborted' | 'drop' | 'pass' | 'tx' | 'redirect')[];
}

export function slotStatus(table: (name: (typeof SLOT_MAPS)[number]) => BpfMap): SlotStatus {
  const hook = table('hook');
  const captured = (Object.keys(HookSlot) as (keyof typeof HookSlot)[]).filter(
    (action) => occupant(hook, HookSlot[action]) !== undefined,
  );
  const next = occupant(table('next'), 0);
  const pass = occupant(hook, HookSlot.pass);
  return {
    rules: occupant(table('rules'), RulesSlot.entry) ?? null,
    next:
      next === undefined
        ? null
        : { ...next, reached: pass === undefined || captureState(pass.id) !== 'foreign' },
    hook: captured,
  };
}
