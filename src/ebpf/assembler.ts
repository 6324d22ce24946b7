import { SluiceError } from '../base/errors.ts';
import { EXIT, GOTO, GOTO_LONG, type Instruction, isWide } from './instruction.ts';

/** What a program is written in: labels, and instructions that may jump to one. */
export type Item =
  | { readonly label: string }
  | {
      readonly instruction: Instruction;
      /** Where a jump goes. */
      readonly target?: string;
      /** Second half of a 64-bit constant. */
      readonly high?: Instruction;
    };

export const label = (name: string): Item => ({ label: name });
export const plain = (instruction: Instruction): Item => ({ instruction });
export const jumpTo = (instruction: Instruction, target: string): Item => ({ instruction, target });
export const goto = (target: string): Item => ({ instruction: GOTO, target });
/** Both halves of a 64-bit constant (load64). */
export const wide = ([instruction, high]: readonly Instruction[]): Item => ({ instruction, high });

export interface AssembleOptions {
  /** Version of the instruction set; 4 has a jump with 32 bits of distance. Default 3. */
  readonly cpu?: 3 | 4;
}

/** Farthest that `off` of a jump reaches. */
const REACH = 32767;
/** Where a trampoline stands on the way to a far target: room for those that are put in after it. */
const STRIDE = 30_000;

const isJump = (item: Item): item is Exclude<Item, { label: string }> & { target: string } =>
  'instruction' in item && item.target !== undefined;

const sizeOf = (item: Item): number => ('label' in item ? 0 : item.high === undefined ? 1 : 2);

function positions(items: readonly Item[]): { at: number[]; labels: Map<string, number> } {
  const labels = new Map<string, number>();
  const at: number[] = [];
  let position = 0;
  for (const item of items) {
    at.push(position);
    if ('label' in item) {
      if (labels.has(item.label)) throw new SluiceError('INTERNAL', `label ${item.label} stands twice`);
      labels.set(item.label, position);
    } else if (isWide(item.instruction) !== (item.high !== undefined))
      throw new SluiceError('INTERNAL', `a 64-bit constant at ${position} lacks one of its halves`);
    position += sizeOf(item);
  }
  return { at, labels };
}

const isLong = ({ code }: Instruction): boolean => code === GOTO_LONG.code;
const isGoto = ({ code }: Instruction): boolean => code === GOTO.code;

/**
 * Makes the jump at `index`, which does not reach its target, go over one that does: gotol right behind it, or on
 * version 3 a goto that stands up to STRIDE instructions nearer to the target.
 */
function bridge(
  items: Item[],
  index: number,
  { at, distance, cpu, fresh }: { at: readonly number[]; distance: number; cpu: number; fresh: string },
): void {
  const item = items[index];
  if (!isJump(item)) return;
  if (cpu >= 4) {
    if (isGoto(item.instruction)) items[index] = { instruction: GOTO_LONG, target: item.target };
    else {
      const [far, near] = [`${fresh}f`, `${fresh}n`];
      items.splice(
        index,
        1,
        { ...item, target: far },
        goto(near),
        label(far),
        { instruction: GOTO_LONG, target: item.target },
        label(near),
      );
    }
    return;
  }
  const wanted = at[index] + Math.sign(distance) * STRIDE;
  let place = index;
  if (distance > 0) while (at[place] < wanted) place++;
  else while (at[place] > wanted) place--;
  const [trampoline, over] = [`${fresh}t`, `${fresh}o`];
  items[index] = { ...item, target: trampoline };
  items.splice(place, 0, goto(over), label(trampoline), goto(item.target), label(over));
}

/** Leaves out what nothing leads to (the verifier refuses it), and then each goto to what stands right behind it. */
function reachable(code: readonly Item[]): Item[] {
  const labels = new Map(
    code.flatMap((item, index) => ('label' in item ? [[item.label, index] as const] : [])),
  );
  const reached = new Uint8Array(code.length);
  const waiting = [0];
  for (let at = waiting.pop(); at !== undefined; at = waiting.pop()) {
    for (; at < code.length && reached[at] === 0; at++) {
      reached[at] = 1;
      const item = code[at];
      if (isJump(item)) waiting.push(labels.get(item.target) ?? code.length);
      if ('instruction' in item && neverGoesOn(item.instruction)) break;
    }
  }
  const items = code.filter((_, index) => reached[index] === 1);
  return items.filter((item, index) => {
    if (!isJump(item) || !isGoto(item.instruction)) return true;
    for (let next = index + 1; next < items.length; next++) {
      const behind = items[next];
      if (!('label' in behind)) return true;
      if (behind.label === item.target) return false;
    }
    return true;
  });
}

const neverGoesOn = (instruction: Instruction): boolean =>
  isGoto(instruction) || isLong(instruction) || instruction.code === EXIT.code;

/**
 * Instructions with their jumps filled in. What nothing leads to is left out, and each goto to what stands right behind
 * it. Jumps over more than 32,767 instructions become gotol on version 4 of the instruction set, and go over trampolines
 * on version 3.
 */
export function assemble(code: readonly Item[], options: AssembleOptions = {}): Instruction[] {
  const { cpu = 3 } = options;
  const items = reachable(code);
  let { at, labels } = positions(items);
  const distanceOf = (index: number): number => {
    const item = items[index];
    if (!isJump(item)) return 0;
    const target = labels.get(item.target);
    if (target === undefined) throw new SluiceError('INTERNAL', `there is no label ${item.target}`);
    return target - at[index] - 1;
  };
  /** Trampolines by the label that they lead to: all that come by may use them. */
  const trampolines = new Map<string, string[]>();
  const isFar = (item: Item, index: number): boolean =>
    isJump(item) && !isLong(item.instruction) && Math.abs(distanceOf(index)) > REACH;
  for (let bridges = 0; ; bridges++) {
    const far = items.findIndex(isFar);
    if (far < 0) break;
    const item = items[far];
    if (!isJump(item)) break;
    const distance = distanceOf(far);
    const near = (trampolines.get(item.target) ?? []).find((name) => {
      const there = (labels.get(name) ?? 0) - at[far];
      return there !== 0 && Math.sign(there) === Math.sign(distance) && Math.abs(there) < REACH;
    });
    if (near !== undefined) {
      items[far] = { ...item, target: near };
      continue;
    }
    const fresh = `.far${bridges}`;
    if (cpu < 4) trampolines.set(item.target, [...(trampolines.get(item.target) ?? []), `${fresh}t`]);
    bridge(items, far, { at, distance, cpu, fresh });
    ({ at, labels } = positions(items));
  }
  return items.flatMap((item, index) => {
    if ('label' in item) return [];
    const { instruction, high } = item;
    if (high !== undefined) return [instruction, high];
    if (!isJump(item)) return [instruction];
    const distance = distanceOf(index);
    return [isLong(instruction) ? { ...instruction, imm: distance } : { ...instruction, off: distance }];
  });
}
