import { attachXdp, type BpfLink, type BpfProgram, xdpAttachment } from '../kernel/index.ts';
import { type AttachMode, attachNew, foreignProgram, isDispatcher } from './attach.ts';
import type { GateInterface } from './control-places.ts';
import { linkPin } from './pin-names.ts';
import type { PinDirectory } from './pins.ts';

/** An interface that the gate is attached to; `warning`: why its mode is not the best one. */
export interface Attached extends GateInterface {
  mode: AttachMode;
  warning?: string;
}

/**
 * `among`: where libxdp's dispatcher is no obstacle.
 * @throws SluiceError INTERFACE_BUSY where a program is on an interface that none of `ours` attaches
 */
export function refuseForeign(
  all: readonly GateInterface[],
  ours: ReadonlyMap<number, unknown>,
  among = false,
): void {
  for (const { ifindex, ifname } of all) {
    const there = ours.has(ifindex) ? undefined : xdpAttachment(ifindex);
    if (there !== undefined && !(among && isDispatcher(there))) throw foreignProgram(ifname, ifindex, there);
  }
}

/** At once, whoever else holds the link: that its pin is removed takes effect later. */
export function takeOff(link: BpfLink): void {
  try {
    link.detach();
  } catch {
    // The interface has gone, and the attachment with it.
  }
  link.close();
}

/** The attachments of one gate to its interfaces, all of which run one program. */
export interface GateSeats {
  /** Names of the pins. */
  readonly pinNames: string[];
  /** @throws SluiceError; all of them run the program `before` then */
  update(program: BpfProgram, before?: BpfProgram): void;
  /**
   * To all of them, or to no more than before. What is attached stays so where its mode is the wanted one.
   * @throws SluiceError INTERFACE_BUSY, KERNEL_FEATURE with the next best mode
   */
  attach(program: BpfProgram, all: readonly GateInterface[], mode: AttachMode | 'auto'): Attached[];
  /** Takes the gate off this interface. */
  detach(ifindex: number): void;
  detachAll(): void;
}

/** A raw link for each interface. */
export class GateLinks implements GateSeats {
  readonly #pins: PinDirectory;
  readonly #home: number;
  readonly #keep: boolean;
  readonly #links: Map<number, BpfLink>;

  /** `keep`: pinned, and so attached when this process has ended. `found`: those of a process before. */
  constructor(pins: PinDirectory, home: number, keep: boolean, found: ReadonlyMap<number, BpfLink>) {
    this.#pins = pins;
    this.#home = home;
    this.#keep = keep;
    this.#links = new Map(found);
  }

  get pinNames(): string[] {
    return [...this.#links.keys()].map((ifindex) => linkPin(ifindex, this.#home));
  }

  update(program: BpfProgram, before?: BpfProgram): void {
    const done: BpfLink[] = [];
    for (const link of this.#links.values()) {
      // The interface has gone, and nobody has looked yet.
      if (link.info().ifindex === 0) continue;
      try {
        link.update(program);
      } catch (error) {
        if (before !== undefined) for (const each of done) each.update(before);
        throw error;
      }
      done.push(link);
    }
  }

  attach(program: BpfProgram, all: readonly GateInterface[], mode: AttachMode | 'auto'): Attached[] {
    refuseForeign(all, this.#links);
    const fresh: number[] = [];
    try {
      return all.map(({ ifindex, ifname }) => {
        const now = this.#links.has(ifindex) ? xdpAttachment(ifindex)?.mode : undefined;
        if (now !== undefined && now !== 'multi' && (mode === 'auto' || mode === now))
          return { ifindex, ifname, mode: now };
        this.detach(ifindex);
        const { link, ...attached } = attachNew(
          (wanted) => attachXdp({ program, ifindex, mode: wanted }),
          ifname,
          mode,
        );
        this.#links.set(ifindex, link);
        fresh.push(ifindex);
        if (this.#keep) link.pin(this.#pins.at(linkPin(ifindex, this.#home)));
        return { ifindex, ifname, ...attached };
      });
    } catch (error) {
      for (const ifindex of fresh) this.detach(ifindex);
      throw error;
    }
  }

  detach(ifindex: number): void {
    const link = this.#links.get(ifindex);
    if (link === undefined) return;
    takeOff(link);
    this.#links.delete(ifindex);
    this.#pins.unpin(linkPin(ifindex, this.#home));
  }

  detachAll(): void {
    for (const ifindex of this.#links.keys()) this.detach(ifindex);
  }
}
