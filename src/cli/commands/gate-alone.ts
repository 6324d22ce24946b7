import { type Command, InvalidArgumentError, Option } from 'commander';
import { grouped, parseBytes, parseDuration, scaled } from '../../base/units.ts';
import { type GateWatch, WATCH_OWNER, type WatchReport } from '../../gate/watch.ts';
import { wholeNumber } from '../arguments.ts';

type When = Pick<GateWatch, 'tls' | 'bytes' | 'packets'>;

export interface AloneOptions {
  alone?: When;
  aloneIdle: number;
  maxWatched: number;
}

const MB = 1e6;
const DEFAULT = `tls,bulk=${MB / 1e6}MB`;

/** `gate up --alone …`: the gate shunts by itself. */
export function addAloneOptions(up: Command): void {
  up.addOption(
    new Option(
      '--alone [WHAT]',
      'Shunt by itself, with no sensor that asks for it: tls, once both sides have sent application data; bulk=SIZE and packets=N, when one direction has had so much. Several with commas.',
    )
      .argParser(what)
      .preset(DEFAULT)
      .helpGroup('Alone:'),
  )
    .addOption(
      new Option('--alone-idle <TIME>', 'What it shunts is let go after so long a silence.')
        .argParser(idle)
        .default(300, '5m')
        .helpGroup('Alone:'),
    )
    .addOption(
      new Option('--max-watched <N>', 'Room for flows that are watched, of IPv4 and of IPv6 each.')
        .argParser(wholeNumber(1024, 2 ** 22))
        .default(65_536, '65536')
        .helpGroup('Alone:'),
    );
}

export function watchSettings({
  aloneIdle,
  maxWatched,
}: AloneOptions): Pick<GateWatch, 'idle' | 'size' | 'owner'> {
  return { idle: aloneIdle, size: maxWatched, owner: WATCH_OWNER };
}

function what(text: string): When {
  const when: When = { tls: false, bytes: 0, packets: 0 };
  for (const item of text.split(',')) {
    const [name, value] = item.split('=', 2);
    if (name === 'tls' && value === undefined) when.tls = true;
    else if (name === 'bulk') when.bytes = value === undefined ? MB : sizeOf(value);
    else if (name === 'packets' && value !== undefined && /^[1-9]\d{0,8}$/.test(value))
      when.packets = Number(value);
    else throw new InvalidArgumentError(`'${item}' is none of tls, bulk=SIZE, packets=N`);
  }
  return when;
}

function sizeOf(text: string): number {
  let bytes: number;
  try {
    bytes = parseBytes(text);
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message);
  }
  if (bytes < 1 || bytes > 1e15)
    throw new InvalidArgumentError(`'${text}' is no size from 1 byte to 1000 TB`);
  return bytes;
}

function idle(text: string): number {
  let seconds: number;
  try {
    seconds = parseDuration(text);
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message);
  }
  if (seconds < 1 || seconds > 86_400) throw new InvalidArgumentError('not from 1s to 1d');
  return seconds;
}

/** Lines of `gate status`. */
export function watchLines(watch: WatchReport): [string, string][] {
  const { tls, bytes, packets, made } = watch;
  const when = [
    tls ? `TLS (${grouped(made.tls)})` : '',
    bytes > 0 ? `from ${scaled(bytes, 'B')} (${grouped(made.bytes)})` : '',
    packets > 0 ? `from ${grouped(packets)} packets (${grouped(made.packets)})` : '',
  ].filter((text) => text !== '');
  return [
    ['shunts alone', when.join(', ')],
    [
      'watches',
      `${grouped(watch.flows4)} IPv4 and ${grouped(watch.flows6)} IPv6 flows, room for ${grouped(watch.max)} each; ${grouped(watch.evicted)} forgotten for others, ${grouped(watch.unwatched)} packets of flows too many`,
    ],
    ...(watch.full > 0
      ? [['', `not shunted, as the table was full: ${grouped(watch.full)}`] satisfies [string, string]]
      : []),
  ];
}
