import { resolve } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { SluiceError } from '../../base/errors.ts';
import { ABIS, type Abi, ZEEK_DIRECTORY } from '../../gate/abi.ts';
import type { EveOptions } from '../../gate/eve.ts';
import type { EveSource } from '../../gate/eve-input.ts';
import { wholeNumber } from '../arguments.ts';

/** Options of `gate up` by which other sensors drive the gate. */
export interface SensorOptions {
  abi?: Abi[];
  abiEntries?: number;
  zeekPins?: string;
  eve?: EveSource;
  evePolicy?: string[];
  evePolicyFile?: string[];
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
        .argParser(wholeNumber(1, 2 ** 24))
        .helpGroup(GROUP),
    )
    .addOption(
      new Option('--zeek-pins <DIR>', `Where xdp-zeek looks for its tables (default: ${ZEEK_DIRECTORY}).`)
        .argParser(bpffs)
        .helpGroup(GROUP),
    )
    .addOption(
      new Option(
        '--eve <SOURCE>',
        "Shunt by Suricata's EVE records: unix_stream:PATH or unix_dgram:PATH (a socket that is made there), or a file that is followed.",
      )
        .argParser(eveSource)
        .helpGroup(GROUP),
    )
    .addOption(
      new Option('--eve-policy <LIST>', 'What is shunted then, as --policy of sluice run (default: tls).')
        .argParser(list)
        .helpGroup(GROUP),
    )
    .addOption(
      new Option('--eve-policy-file <FILE>', 'Policies of your own (docs/policies.md).')
        .argParser(list)
        .helpGroup(GROUP),
    );
}

/** @throws SluiceError USAGE */
export function eveOptions({ eve, evePolicy, evePolicyFile }: SensorOptions): EveOptions | undefined {
  if (eve === undefined) {
    if (evePolicy === undefined && evePolicyFile === undefined) return undefined;
    throw new SluiceError('USAGE', 'policies for EVE records, and no --eve to read them from', {
      help: '--eve unix_stream:/run/sluice-eve.sock makes a socket for Suricata',
    });
  }
  return {
    source: { ...eve, path: resolve(eve.path) },
    policy: evePolicy ?? (evePolicyFile === undefined ? ['tls'] : []),
    policyFile: (evePolicyFile ?? []).map((path) => resolve(path)),
  };
}

function eveSource(text: string): EveSource {
  const [, kind, path] = /^(unix_stream|unix_dgram):(.+)$/.exec(text) ?? [];
  if (path === undefined && /^[a-z_]+:/.test(text))
    throw new InvalidArgumentError('not unix_stream:PATH, unix_dgram:PATH or a file');
  const name = path ?? text;
  if (name === '') throw new InvalidArgumentError('no path');
  // What a Unix socket's address has room for.
  if (kind !== undefined && Buffer.byteLength(resolve(name)) > 107)
    throw new InvalidArgumentError('the path of a socket has at most 107 bytes');
  return { kind: (kind as EveSource['kind'] | undefined) ?? 'file', path: name };
}

function list(text: string, before: string[] | undefined): string[] {
  return [...(before ?? []), text];
}

function abis(text: string, before: Abi[] | undefined): Abi[] {
  const given = text.split(',').map((each) => each.trim());
  const wrong = given.find((each) => !(ABIS as readonly string[]).includes(each));
  if (wrong !== undefined) throw new InvalidArgumentError(`'${wrong}' is none of ${ABIS.join(', ')}`);
  return [...new Set([...(before ?? []), ...(given as Abi[])])];
}

function bpffs(text: string): string {
  if (!/^\/sys\/fs\/bpf(\/[A-Za-z0-9_-]+)+$/.test(text))
    throw new InvalidArgumentError('not a directory below /sys/fs/bpf, without dots');
  return text;
}
