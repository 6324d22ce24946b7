import { SluiceError } from '../base/errors.ts';
import {
  attachComponent,
  BpfMap,
  type BpfProgram,
  detachComponent,
  libxdpMissing,
  MapType,
  probeComponents,
  xdpAttachment,
} from '../kernel/index.ts';
import { type AttachMode, attachNew } from './attach.ts';
import type { GateInterface } from './control-places.ts';
import { dispatched } from './dispatcher.ts';
import { type Attached, type GateSeats, refuseForeign } from './links.ts';
import { COMPONENT_PINS } from './pin-names.ts';
import type { PinDirectory } from './pins.ts';
import { occupy } from './slots.ts';

/** The gate as a component of libxdp's dispatcher (docs/adr/0052-libxdp.md). */
export interface GateLibxdp {
  /** Where it runs among the others: the lowest number first. */
  readonly priority: number;
  /** By libxdp without a dispatcher, as where the kernel has none: no use but for trying libxdp's side of it. */
  readonly single?: boolean;
}

const ENTRY = { type: MapType.progArray, name: 'entry', keySize: 4, valueSize: 4, maxEntries: 1 } as const;
const SLOT: Uint8Array = new Uint8Array(4);

/** What an earlier gate of this kind has left. */
export interface FoundComponents {
  readonly entry: BpfMap | undefined;
  /** By interface; all are attached. */
  readonly programs: ReadonlyMap<number, BpfProgram>;
}

/** @throws SluiceError KERNEL_FEATURE where there is no libxdp, or the kernel has nothing that it could do a dispatcher with */
export function checkLibxdp(): void {
  const missing = libxdpMissing();
  if (missing !== undefined)
    throw new SluiceError('KERNEL_FEATURE', 'libxdp cannot be loaded', {
      cause: missing,
      help: 'install it (Debian: libxdp1), or leave out --libxdp',
    });
  const probed = probeComponents();
  if (probed.state === 'supported') return;
  if (probed.state === 'inconclusive')
    throw new SluiceError(
      'PRIVILEGE',
      'whether the kernel runs components of libxdp could not be found out',
      {
        cause: probed.cause,
        help: 'run as root',
      },
    );
  throw new SluiceError(
    'KERNEL_FEATURE',
    'the running kernel runs no components of libxdp: no program takes the place of a function there',
    {
      help: `Linux ${probed.since} has it, unless it is configured out (CONFIG_DEBUG_INFO_BTF, CONFIG_FUNCTION_TRACER); without --libxdp the gate is on the interface by itself, with one program behind it (--next)`,
    },
  );
}

/** Whether a component is on an interface: behind a dispatcher, or by itself. */
export function isComponentOn(ifindex: number, programId: number): boolean {
  const there = xdpAttachment(ifindex);
  if (there === undefined) return false;
  return (
    there.programId === programId || dispatched(ifindex, there.programId).some(({ id }) => id === programId)
  );
}

/**
 * The seats of a gate behind libxdp's dispatchers: one small component for each interface, which the kernel cannot exchange, and all of
 * them go on to what is in one slot, which is exchanged from one packet to the next.
 */
export class GateComponents implements GateSeats {
  readonly #pins: PinDirectory;
  readonly #home: number;
  readonly #keep: boolean;
  readonly #how: GateLibxdp;
  /** From the first time that it is attached. */
  #entry: BpfMap | undefined;
  readonly #programs: Map<number, BpfProgram>;

  /** `keep`: attached when this process has ended. */
  constructor(
    pins: PinDirectory,
    home: number,
    keep: boolean,
    how: GateLibxdp,
    found: FoundComponents | undefined,
  ) {
    this.#pins = pins;
    this.#home = home;
    this.#keep = keep;
    this.#how = how;
    this.#programs = new Map(found?.programs);
    this.#entry = found?.entry;
  }

  get pinNames(): string[] {
    return [COMPONENT_PINS.entry, ...[...this.#programs.keys()].map((ifindex) => this.#pin(ifindex))];
  }

  #pin(ifindex: number): string {
    return COMPONENT_PINS.program(ifindex, this.#home);
  }

  /** What is there goes on with the gate before where this fails. */
  update(program: BpfProgram): void {
    if (this.#entry !== undefined && this.#programs.size > 0) occupy(this.#entry, 0, program);
  }

  attach(program: BpfProgram, all: readonly GateInterface[], mode: AttachMode | 'auto'): Attached[] {
    refuseForeign(all, this.#programs, true);
    // First: no packet gets around it.
    this.#entry ??= BpfMap.create(ENTRY);
    const entry = this.#entry;
    occupy(entry, 0, program);
    if (this.#keep) this.#pins.put(COMPONENT_PINS.entry, entry);
    const fresh: number[] = [];
    try {
      return all.map(({ ifindex, ifname }) => {
        const now = this.#programs.has(ifindex) ? xdpAttachment(ifindex)?.mode : undefined;
        if (now !== undefined && now !== 'multi' && (mode === 'auto' || mode === now))
          return { ifindex, ifname, mode: now };
        this.detach(ifindex);
        const { link, ...attached } = attachNew(
          (wanted) => this.#attachOne(entry, ifindex, wanted),
          ifname,
          mode,
        );
        this.#programs.set(ifindex, link);
        fresh.push(ifindex);
        if (this.#keep) this.#pins.put(this.#pin(ifindex), link);
        return { ifindex, ifname, ...attached };
      });
    } catch (error) {
      for (const ifindex of fresh) this.detach(ifindex);
      throw error;
    }
  }

  #attachOne(entry: BpfMap, ifindex: number, mode: AttachMode): BpfProgram {
    const { priority, single = false } = this.#how;
    const { program, dispatcher } = attachComponent({ entry, priority, ifindex, mode });
    if (dispatcher !== single) return program;
    detachComponent(program, ifindex);
    program.close();
    throw new SluiceError(
      'KERNEL_FEATURE',
      'libxdp has attached the gate without a dispatcher, and it was taken off again',
      {
        help: '`xdp-loader load -v` of any program says why libxdp makes none; without --libxdp the gate is on the interface by itself',
      },
    );
  }

  detach(ifindex: number): void {
    const program = this.#programs.get(ifindex);
    if (program === undefined) return;
    try {
      if (isComponentOn(ifindex, program.id)) detachComponent(program, ifindex);
    } catch {
      // It stays in the dispatcher, and lets everything pass once there is no gate behind it.
    }
    program.close();
    this.#programs.delete(ifindex);
    this.#pins.unpin(this.#pin(ifindex));
  }

  detachAll(): void {
    this.#entry?.delete(SLOT);
    for (const ifindex of this.#programs.keys()) this.detach(ifindex);
    this.#pins.unpin(COMPONENT_PINS.entry);
    this.#entry?.close();
    this.#entry = undefined;
  }
}
