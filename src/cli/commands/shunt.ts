import { Argument, type Command, InvalidArgumentError, Option } from 'commander';
import { outputSchema } from '../../base/config.ts';
import { SluiceError } from '../../base/errors.ts';
import type { CommandIo } from '../../base/io.ts';
import { parseDuration, parseThreshold, scaled } from '../../base/units.ts';
import type { ControlClient } from '../../gate/control-client.ts';
import type { PairRow, ShuntRow, WatchEvent } from '../../gate/control-protocol.ts';
import { type FlowName, flowText, parseFlow } from '../../gate/flow-key.ts';
import type { Threshold } from '../../gate/ops.ts';
import type { CommandHost, Register } from '../command.ts';
import { configOf } from '../flags.ts';
import { withGate } from '../gate-choice.ts';

export interface Selection {
  interface?: string;
  flow?: string;
  pair?: string[];
  pairs?: boolean;
  vlan?: [number, number];
  vni?: number;
  geneveVni?: number;
  why?: string;
}

/** `sluice shunt add|rm|ls|watch`. */
export const registerShunt: Register = (program, host) => {
  const shunt = program
    .command('shunt')
    .description('Shunts of a gate that is up: add, remove, list, follow.');

  const add = shunt
    .command('add')
    .description('Drop and count the packets of a flow, or all between two addresses, for a time.')
    .addOption(new Option('--ttl <TIME>', 'For so long, up to 7d.').argParser(ttl).default(300, '300'))
    .addOption(
      new Option(
        '--after <N>',
        'Only once one direction has had so much more: IP bytes (1MB), or packets (100packets).',
      ).argParser(threshold),
    )
    .action(async () => {
      const { config } = configOf(add, outputSchema);
      const given = add.opts<Selection & { ttl: number; after?: Threshold }>();
      await host.run(config, async (io) => {
        using client = await connect(given.interface);
        const why = given.why === undefined ? {} : { why: given.why };
        const pair = selectedPair(given);
        if (pair !== undefined) {
          if (given.after !== undefined)
            throw new SluiceError('USAGE', '--after is for flows, not for pairs', {
              help: "sluice shunt add --flow 'tcp 10.0.0.1:443 10.0.0.2:51000' --after 1MB",
            });
          await client.ask('pair.add', { ...pair, ttl: given.ttl, ...why });
          reportPair(io, config.json, pair, `shunted for ${given.ttl} s`, { ttl: given.ttl });
          return undefined;
        }
        const flow = selected(given);
        const { results } = await client.ask<Results>('add', {
          flows: [{ ...flow, ttl: given.ttl, ...(given.after === undefined ? {} : { after: given.after }) }],
          ...why,
        });
        await succeed(results);
        const later = given.after === undefined ? '' : ', once one direction has had as much as --after says';
        report(io, config.json, flow, 'shunted', ` for ${given.ttl} s${later}`, { ttl: given.ttl });
        return undefined;
      });
    });
  withFlow(add);
  add.addHelpText(
    'after',
    `
Examples:
  sluice shunt add --flow 'tcp 10.0.0.1:443 10.0.0.2:51000'
  sluice shunt add --flow 'udp [2001:db8::1]:4500 [2001:db8::2]:4500' --ttl 1h --why 'backup run'
  sluice shunt add --flow 'icmp 10.0.0.1 10.0.0.2' --vlan 100
  sluice shunt add --flow 'tcp 10.0.0.1:443 10.0.0.2:51000' --after 1MB
  sluice shunt add --pair 10.0.0.1 10.0.0.2 --ttl 10m
  sluice shunt add --pair 10.1.0.0/16 10.2.0.0/16 --ttl 10m`,
  );

  const rm = shunt
    .command('rm')
    .description('Let the packets of a flow or pair pass again.')
    .action(async () => {
      const { config } = configOf(rm, outputSchema);
      const given = rm.opts<Selection>();
      await host.run(config, async (io) => {
        using client = await connect(given.interface);
        const why = given.why === undefined ? {} : { why: given.why };
        const pair = selectedPair(given);
        if (pair !== undefined) {
          await client.ask('pair.remove', { ...pair, ...why });
          reportPair(io, config.json, pair, 'no longer shunted', {});
          return undefined;
        }
        const flow = selected(given);
        const { results } = await client.ask<Results>('remove', { flows: [flow], ...why });
        await succeed(results);
        report(io, config.json, flow, 'no longer shunted', '', {});
        return undefined;
      });
    });
  withFlow(rm);
  rm.addHelpText('after', "\nExample:\n  sluice shunt rm --flow 'tcp 10.0.0.1:443 10.0.0.2:51000'");

  const ls = shunt
    .command('ls')
    .description('The live table with its counters.')
    .addOption(new Option('--pairs', 'Pairs of addresses and prefixes instead of flows.'))
    .action(async () => {
      const { config } = configOf(ls, outputSchema);
      await host.run(config, async (io) => {
        if (ls.opts<Selection>().pairs === true) {
          using client = await connect(ls.opts<Selection>().interface);
          const { pairs } = await client.ask<{ pairs: PairRow[] }>('pair.list');
          io.out(config.json ? `${JSON.stringify(pairs)}\n` : pairs.map(pairText).join(''));
          return undefined;
        }
        const rows = await allRows(ls.opts<Selection>().interface);
        if (!config.json) io.out(rows.map(rowText).join(''));
        else io.out(`[${rows.map((row) => JSON.stringify(row)).join(',\n')}]\n`);
        if (!config.json) io.say(`${rows.length} ${rows.length === 1 ? 'shunt' : 'shunts'}`);
        return undefined;
      });
    });
  withGate(ls);
  ls.addHelpText('after', '\nExample:\n  sluice shunt ls --json');

  const watch = shunt
    .command('watch')
    .description('Shunts as they begin and end, and the counters, until Ctrl-C.')
    .addOption(
      new Option('--interval <TIME>', 'Counters so often; 0: never.').argParser(interval).default(1, '1'),
    )
    .action(async () => {
      const { config } = configOf(watch, outputSchema);
      const given = watch.opts<{ interface?: string; interval: number }>();
      await host.run(config, async (io) => {
        using client = await connect(given.interface);
        await client.watch(given.interval, (event) =>
          io.out(config.json ? `${JSON.stringify(event)}\n` : eventText(event)),
        );
        io.say('ready');
        const stopped = new Promise<'stopped'>((done) => {
          io.stop.addEventListener('abort', () => done('stopped'), { once: true });
          if (io.stop.aborted) done('stopped');
        });
        const ended = await Promise.race([stopped, client.closed]);
        if (ended === 'stopped') return undefined;
        throw new SluiceError('GATE_DOWN', 'the gate has gone down');
      });
    });
  withGate(watch);
  registerException(shunt, host);
  watch.addHelpText('after', '\nExample:\n  sluice shunt watch --json --interval 5s');
};

/** `sluice shunt exception add|rm|ls`. */
function registerException(shunt: Command, host: CommandHost): void {
  const exception = shunt.command('exception').description('Addresses and networks that are never shunted.');
  for (const [name, op, description] of [
    ['add', 'exception.add', 'Never shunt what has an address of this network; what is shunted now ends.'],
    ['rm', 'exception.remove', 'Let this network be shunted again.'],
  ] as const) {
    const command = exception
      .command(name)
      .description(description)
      .addArgument(new Argument('<PREFIX>', 'an address, or one with a prefix length'))
      .addOption(new Option('--why <TEXT>', 'Reason, for the audit log.'))
      .action(async (prefix: string) => {
        const { config } = configOf(command, outputSchema);
        const { interface: ifname, why } = command.opts<Selection>();
        await host.run(config, async (io) => {
          using client = await connect(ifname);
          const result = await client.ask<object>(op, { prefix, ...(why === undefined ? {} : { why }) });
          if (config.json) io.out(`${JSON.stringify({ prefix, ...result })}\n`);
          else io.say(`${prefix} ${name === 'add' ? 'is never shunted' : 'may be shunted'}`);
          return undefined;
        });
      });
    withGate(command);
    command.addHelpText('after', `\nExample:\n  sluice shunt exception ${name} 10.1.0.0/16`);
  }
  const ls = exception
    .command('ls')
    .description('List them; the addresses of this host are among them.')
    .action(async () => {
      const { config } = configOf(ls, outputSchema);
      await host.run(config, async (io) => {
        using client = await connect(ls.opts<Selection>().interface);
        const { exceptions } = await client.ask<{ exceptions: string[] }>('exception.list');
        io.out(
          config.json ? `${JSON.stringify(exceptions)}\n` : exceptions.map((each) => `${each}\n`).join(''),
        );
        return undefined;
      });
    });
  withGate(ls);
  ls.addHelpText('after', '\nExample:\n  sluice shunt exception ls --json');
}

interface PairSelection {
  a: string;
  b: string;
  vlan: number;
  innerVlan: number;
}

function selectedPair({
  pair,
  flow,
  vlan = [0, 0],
  vni: tunnel,
  geneveVni,
}: Selection): PairSelection | undefined {
  if ((pair === undefined) === (flow === undefined))
    throw new SluiceError('USAGE', 'name either a --flow or a --pair', {
      help: "--pair 10.0.0.1 10.0.0.2, or --flow 'tcp 10.0.0.1:443 10.0.0.2:51000'",
    });
  if (pair === undefined) return undefined;
  const [a, b, more] = pair;
  if (a === undefined || b === undefined || more !== undefined)
    throw new SluiceError('USAGE', 'a pair is two addresses or two networks', {
      help: '--pair 10.0.0.1 10.0.0.2',
    });
  if (tunnel !== undefined || geneveVni !== undefined)
    throw new SluiceError('USAGE', '--pair does not go together with --vni');
  return { a, b, vlan: vlan[0], innerVlan: vlan[1] };
}

function reportPair(io: CommandIo, json: boolean, pair: PairSelection, what: string, fields: object): void {
  if (json) io.out(`${JSON.stringify({ ...pair, ...fields })}\n`);
  else io.say(`everything between ${pair.a} and ${pair.b} is ${what}`);
}

function pairText({ a, b, owner, expires, ab, ba }: PairRow): string {
  const pkts = (ab.pkts + ba.pkts).toLocaleString('en-US');
  const left = expires === null ? '' : `, ${Math.max(0, Math.round(expires - Date.now() / 1000))} s left`;
  return `${a} ${b}  ${pkts} packets, ${scaled(ab.ipBytes + ba.ipBytes, 'B')} of IP (${owner === '' ? 'by hand' : owner}${left})\n`;
}

export interface Results {
  results: { error?: { code: string; message: string; help?: string } }[];
}

function withFlow(command: Command): void {
  command
    .addOption(flowOption())
    .addOption(
      new Option(
        '--pair <ADDRESS...>',
        'Instead of a flow: everything between two addresses, or two networks.',
      ),
    );
  withTags(command);
}

/** How a flow is named. */
export function flowOption(): Option {
  return new Option(
    '--flow <FLOW>',
    "The flow: 'tcp A:PORT B:PORT', udp, sctp, 'icmp A B', or a protocol number; IPv6 in brackets.",
  );
}

/** What there is to say about a flow beside its endpoints, and which gate. */
export function withTags(command: Command): void {
  command
    .addOption(new Option('--vlan <ID[.INNER]>', 'In this VLAN (gates with --vlan-key).').argParser(vlanIds))
    .addOption(
      new Option(
        '--vni <N>',
        'In the VXLAN tunnel with this identifier (gates with --tunnel-key).',
      ).argParser(vni),
    )
    .addOption(new Option('--geneve-vni <N>', 'The same of GENEVE.').argParser(vni))
    .addOption(new Option('--why <TEXT>', 'Reason, for the audit log.'));
  withGate(command);
}

export function selected({ flow = '', vlan = [0, 0], vni: tunnel = 0, geneveVni }: Selection): FlowName {
  const tags = { vlan: vlan[0], innerVlan: vlan[1], vni: tunnel };
  return parseFlow(flow, geneveVni === undefined ? tags : { ...tags, geneveVni });
}

export async function connect(ifname: string | undefined): Promise<ControlClient> {
  const { findPlace } = await import('../../gate/control-places.ts');
  const { ControlClient: Client } = await import('../../gate/control-client.ts');
  return await Client.connect(findPlace(ifname));
}

export async function succeed({ 0: result }: Results['results']): Promise<void> {
  if (result?.error === undefined) return;
  const { answerError } = await import('../../gate/control-client.ts');
  throw answerError(result.error);
}

function report(
  io: CommandIo,
  json: boolean,
  flow: FlowName,
  what: string,
  more: string,
  fields: object,
): void {
  if (json) io.out(`${JSON.stringify({ ...flow, ...fields })}\n`);
  else io.say(`${flowText(flow)} is ${what}${more}`);
}

/** From the daemon, or through the pins when there is none or this user may only read. */
async function allRows(ifname: string | undefined): Promise<ShuntRow[]> {
  try {
    using client = await connect(ifname);
    const rows: ShuntRow[] = [];
    await client.ask('list', {}, (page) => {
      for (const row of page) rows.push(row as ShuntRow);
    });
    return rows;
  } catch (error) {
    const readable =
      error instanceof SluiceError && (error.code === 'GATE_DOWN' || error.code === 'PRIVILEGE');
    if (!readable) throw error;
    const { findPlace } = await import('../../gate/control-places.ts');
    const { OfflineGate } = await import('../../gate/control-offline.ts');
    using offline = new OfflineGate(findPlace(ifname));
    return await offline.rows();
  }
}

function rowText(row: ShuntRow): string {
  const pkts = (row.ab.pkts + row.ba.pkts).toLocaleString('en-US');
  const bytes = scaled(row.ab.bytes + row.ba.bytes, 'B');
  const left =
    row.expires === null ? '' : `, ${Math.max(0, Math.round(row.expires - Date.now() / 1000))} s left`;
  const by = row.owner === '' ? 'by hand' : row.owner;
  const armed = row.state === 'armed' ? 'armed, ' : '';
  return `${flowText(row)}  ${pkts} packets, ${bytes} (${armed}${by}${row.trigger === '' ? '' : `, ${row.trigger}`}${left})\n`;
}

function eventText(event: WatchEvent): string {
  const time = new Date(event.ts * 1000).toISOString().slice(11, 23);
  if (event.event === 'counters') {
    const { seen, shunted } = event.ledger;
    const lost = event.lost === 0 ? '' : `, ${event.lost} events lost`;
    return `${time} ${event.shunts} shunts; seen ${seen.pkts}, shunted ${shunted.pkts} packets${lost}\n`;
  }
  const reason = event.event === 'end' ? ` (${event.reason})` : '';
  return `${time} ${event.event}${reason} ${rowText(event.shunt)}`;
}

function vlanIds(text: string): [number, number] {
  const [, outer, inner = '0'] = /^(\d{1,4})(?:\.(\d{1,4}))?$/.exec(text) ?? [];
  if (outer === undefined || Number(outer) > 4094 || Number(inner) > 4094)
    throw new InvalidArgumentError('not a VLAN id up to 4094, or two of them as 100.200');
  return [Number(outer), Number(inner)];
}

function vni(text: string): number {
  if (!/^\d{1,8}$/.test(text) || Number(text) > 0xffffff)
    throw new InvalidArgumentError('not a number up to 16777215');
  return Number(text);
}

const LONGEST = 7 * 86_400;

function time(text: string, least: number, most: number): number {
  try {
    const value = parseDuration(text);
    if (value >= least && value <= most) return value;
  } catch {
    // Told below.
  }
  throw new InvalidArgumentError(`not a time from ${least} to ${most} seconds, such as 30 or 5m`);
}

export const ttl = (text: string): number => time(text, 1, LONGEST);
const interval = (text: string): number => time(text, 0, 3600);

function threshold(text: string): Threshold {
  try {
    return parseThreshold(text);
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message);
  }
}
