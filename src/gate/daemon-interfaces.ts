import { SluiceError } from '../base/errors.ts';
import { interfaceState, interfaces } from '../kernel/index.ts';
import { interfacesText, upCommand } from './control-places.ts';
import type { InterfaceRow } from './control-protocol.ts';
import type { Gate } from './gate.ts';
import type { Attached } from './links.ts';

/** The interfaces of one gate, as its daemon keeps them: one may go while the others stay. */
export class InterfaceKeeper {
  readonly #gate: Gate;
  readonly #names: readonly string[];
  #there: readonly Attached[];

  constructor(gate: Gate, attached: readonly Attached[]) {
    this.#gate = gate;
    this.#names = attached.map(({ ifname }) => ifname);
    this.#there = attached;
  }

  /** By the names that they were given by. The first one stands for all where one name is asked for. */
  rows(): InterfaceRow[] {
    return this.#there.map(({ ifindex, ifname, mode, warning }) => ({
      interface: ifname,
      ifindex,
      mode,
      modeReason: warning ?? null,
    }));
  }

  /** By the names that they have now. */
  present(): InterfaceRow[] {
    const names = new Map(interfaces().map(({ index, name }) => [index, name]));
    return this.rows().map((row) => ({ ...row, interface: names.get(row.ifindex) ?? row.interface }));
  }

  /** What people should know of the modes, once each. */
  get warnings(): string[] {
    return [...new Set(this.#there.flatMap(({ warning = [] }) => warning))];
  }

  /**
   * Takes the gate off those that have gone, and answers their names.
   * @throws SluiceError INTERFACE_GONE when none is left
   */
  dropGone(): string[] {
    const gone = this.#there.filter(({ ifindex }) => interfaceState(ifindex) === undefined);
    if (gone.length === 0) return [];
    if (gone.length === this.#there.length) {
      const names = this.#names;
      const text =
        names.length === 1 ? `interface ${names[0]} has` : `interfaces ${interfacesText(names)} have`;
      throw new SluiceError(
        'INTERFACE_GONE',
        `the ${text} gone, and the gate with ${names.length === 1 ? 'it' : 'them'}`,
        {
          help: `\`${upCommand(names)}\` once ${names.length === 1 ? 'it is' : 'they are'} back`,
        },
      );
    }
    this.#there = this.#there.filter((each) => !gone.includes(each));
    for (const { ifindex } of gone) this.#gate.detach(ifindex);
    return gone.map(({ ifname }) => ifname);
  }
}
