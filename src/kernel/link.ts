import { SluiceError } from '../base/errors.ts';
import { addon } from './addon.ts';
import { AttachType, XdpFlag } from './constants.ts';
import { attempt, check, closedError, errnoName } from './errors.ts';
import { interfaces } from './interfaces.ts';
import { BpfProgram, type ProgramInfo } from './program.ts';

export type XdpMode = 'native' | 'generic' | 'offload';

export interface LinkInfo {
  /** LinkType.*. */
  type: number;
  id: number;
  programId: number;
  /** Of XDP and tcx links; 0 when the interface has gone. */
  ifindex: number;
}

/** An attachment that lives as long as a descriptor or a pin of it does. */
export class BpfLink {
  readonly id: number;
  #fd: number;

  private constructor(fd: number) {
    try {
      this.id = attempt('info', `link descriptor ${fd}`, () => addon().linkInfo(fd)).id;
    } catch (error) {
      addon().closeFd(fd);
      throw error;
    }
    this.#fd = fd;
  }

  /** Takes over a descriptor that the addon has just made in this thread. */
  static fromFd(fd: number): BpfLink {
    return new BpfLink(fd);
  }

  static fromId(id: number): BpfLink {
    return new BpfLink(check('link.open', addon().fdById(2, id), () => `open link ${id}`));
  }

  static openPinned(path: string): BpfLink {
    return new BpfLink(
      check('pin.open', addon().objGet(path, 2, false), () => `open the link pinned at ${path}`),
    );
  }

  get fd(): number {
    if (this.#fd < 0) throw closedError('the link');
    return this.#fd;
  }

  get closed(): boolean {
    return this.#fd < 0;
  }

  info(): LinkInfo {
    const fd = this.fd;
    return attempt('info', 'the link', () => addon().linkInfo(fd));
  }

  pin(path: string): void {
    check('pin', addon().objPin(this.fd, path), () => `pin the link at ${path}`);
  }

  /** From one packet to the next this program runs instead; both must be of one kind. */
  update(program: BpfProgram): void {
    check('link.update', addon().linkUpdate(this.fd, program.fd), () => 'exchange the program of the link');
  }

  /** Takes the program off, whoever else holds the link. */
  detach(): void {
    check('link.detach', addon().linkDetach(this.fd), () => 'detach the link');
  }

  close(): void {
    if (this.#fd < 0) return;
    addon().closeFd(this.#fd);
    this.#fd = -1;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

export interface XdpAttachOptions {
  program: BpfProgram;
  ifindex: number;
  mode: XdpMode;
}

/**
 * Attaches an XDP program by a raw link: INTERFACE_BUSY when another one is there, which is never replaced,
 * INTERFACE_UNKNOWN, or KERNEL_FEATURE when the driver cannot do the mode.
 */
export function attachXdp(options: XdpAttachOptions): BpfLink {
  const { program, ifindex, mode } = options;
  const fd = addon().linkCreate(program.fd, ifindex, AttachType.xdp, XdpFlag[mode]);
  // The kernel answers EINVAL for an interface that does not exist; ask before blaming the driver.
  if (errnoName(-fd) === 'EINVAL' && !interfaces().some((each) => each.index === ifindex)) {
    throw new SluiceError('INTERFACE_UNKNOWN', `there is no interface ${ifindex} in this network namespace`);
  }
  return BpfLink.fromFd(
    check('xdp.attach', fd, () => `attach ${program.name} to interface ${ifindex} in ${mode} mode`),
  );
}

/** Attaches a traffic-control program (Linux 6.6 and newer); it goes away with the link. */
export function attachTcx(program: BpfProgram, ifindex: number, direction: 'ingress' | 'egress'): BpfLink {
  const type = direction === 'ingress' ? AttachType.tcxIngress : AttachType.tcxEgress;
  const fd = addon().linkCreate(program.fd, ifindex, type, 0);
  return BpfLink.fromFd(
    check('tcx.attach', fd, () => `attach ${program.name} to interface ${ifindex} (tcx ${direction})`),
  );
}

export interface XdpAttachment {
  /** `multi`: several modes at once; programId is then the native one's. */
  mode: XdpMode | 'multi';
  programId: number;
}

const MODES = [undefined, 'native', 'generic', 'offload', 'multi'] as const;

/** Which XDP program an interface carries, whoever attached it; undefined for none, or no such interface. */
export function xdpAttachment(ifindex: number): XdpAttachment | undefined {
  const { mode, programId } = attempt('xdp.query', `interface ${ifindex}`, () => addon().xdpQuery(ifindex));
  const name = MODES[mode];
  return name === undefined ? undefined : { mode: name, programId };
}

/** What the kernel tells of any loaded program. */
export function programInfo(id: number, dump = false): ProgramInfo {
  using program = BpfProgram.fromId(id);
  return program.info(dump);
}
