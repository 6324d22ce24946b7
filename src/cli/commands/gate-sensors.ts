import { type Command, InvalidArgumentError, Option } from 'commander';
import { ABIS, type Abi, ZEEK_DIRECTORY } from '../../gate/abi.ts';

/** Options of `gate up` by which other sensors drive the gate. */
export interface SensorOptions {
  abi?: Abi[];
  abiEntries?: number;
  zeekPins?: string;
}

const GROUP = 'Other sensors:';

/** Gives `gate up` those options. */
export function addSensorOptions(up: Command): void {
  up.addOption(
    new Option(
      '--abi <LIST>',
      `Serve the pinned tables of these sensors: ${ABIS.join(', ')} (docs/zeek.md, docs/suricata.md).`,
    )
      .argParser(abis)
      .helpGroup(GROUP),
  )
    .addOption(
      new Option('--abi-entries <N>', "Room in each of those tables (default: the sensors' own sizes).")
        .argParser(entries)
        .helpGroup(GROUP),
    )
    .addOption(
      new Option('--zeek-pins <DIR>', `Where xdp-zeek looks for its tables (default: ${ZEEK_DIRECTORY}).`)
        .argParser(bpffs)
        .helpGroup(GROUP),
    );
}

function abis(text: string, before: Abi[] | undefined): Abi[] {
  const given = text.split(',').map((each) => each.trim());
  const wrong = given.find((each) => !(ABIS as readonly string[]).includes(each));
  if (wrong !== undefined) throw new InvalidArgumentError(`'${wrong}' is none of ${ABIS.join(', ')}`);
  return [...new Set([...(before ?? []), ...(given as Abi[])])];
}

function entries(text: string): number {
  if (!/^\d{1,8}$/.test(text) || Number(text) < 1 || Number(text) > 2 ** 24)
    throw new InvalidArgumentError('not a number from 1 to 16777216');
  return Number(text);
}

function bpffs(text: string): string {
  if (!/^\/sys\/fs\/bpf(\/[A-Za-z0-9_-]+)+$/.test(text))
    throw new InvalidArgumentError('not a directory below /sys/fs/bpf, without dots');
  return text;
}
