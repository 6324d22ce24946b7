import { isIP } from 'node:net';
import { resolve } from 'node:path';
import { Argument, type Command, InvalidArgumentError, Option } from 'commander';
import { outputSchema } from '../../base/config.ts';
import { SluiceError } from '../../base/errors.ts';
import type { RequestOf } from '../../gate/control-protocol.ts';
import type { SlotStatus } from '../../gate/slots.ts';
import type { TraceRow } from '../../gate/trace.ts';
import { wholeNumber } from '../arguments.ts';
import type { CommandHost } from '../command.ts';
import { addFlags, configOf } from '../flags.ts';
import { connectGate, interfaceOption } from '../gate-choice.ts';

const POLL_MS = 200;
const MOST_PACKETS = 999_999_999;

interface TraceOptions {
  interface?: string;
  flow?: string;
  host?: string;
  count?: number;
}

/** `sluice gate next` and `sluice gate trace`. */
export function registerGateSlots(gate: Command, host: CommandHost): void {
  const next = gate
    .command('next')
    .description('Run a pinned XDP program behind the gate, on what it passes; none ends that.')
    .addArgument(new Argument('<PIN>', 'where the program is pinned, or none'))
    .addOption(interfaceOption())
    .action(async (pin: string) => {
      const { config } = configOf(next, outputSchema);
      await host.run(config, async (io) => {
        using client = await connectGate(next.opts<TraceOptions>().interface);
        const path = pin === 'none' ? null : resolve(pin);
        const { slots } = await client.ask<{ slots: SlotStatus }>('next', { pin: path });
        if (config.json) io.out(`${JSON.stringify({ next: slots.next })}\n`);
        else if (slots.next === null) io.say('what the gate passes goes on to the kernel');
        else io.say(`what the gate passes goes on to ${slots.next.name} (program ${slots.next.id})`);
        if (slots.next?.reached === false)
          io.warn("not while a capture is in the hook's pass slot: packets go on to that instead");
        return undefined;
      });
    });
  addFlags(next, outputSchema);
  next.addHelpText(
    'after',
    `
The program is one of section xdp.frags, loaded with expected_attach_type 0.

Examples:
  sluice gate next /sys/fs/bpf/balancer
  sluice gate next none`,
  );

  const trace = gate
    .command('trace')
    .description('Print what the gate decides on packets of a flow or host, and why, until Ctrl-C.')
    .addOption(interfaceOption())
    .addOption(
      new Option(
        '--flow <FLOW>',
        "Of a flow, in both directions: 'tcp A:PORT B:PORT', 'udp A B', 'any A B'.",
      ),
    )
    .addOption(new Option('--host <ADDR>', 'From and to this address.').argParser(address))
    .addOption(
      new Option('--count <N>', 'End after so many packets.').argParser(wholeNumber(1, MOST_PACKETS)),
    )
    .action(async () => {
      const { config } = configOf(trace, outputSchema);
      const given = trace.opts<TraceOptions>();
      await host.run(config, async (io) => {
        const filter = filterOf(given);
        const { traceText } = await import('../../gate/trace.ts');
        using client = await connectGate(given.interface);
        await client.ask('trace.start', filter);
        io.say('ready');
        let left = given.count ?? Number.POSITIVE_INFINITY;
        let lost = 0;
        for (let last = false; !last; ) {
          last = io.stop.aborted;
          const read = await client.ask<{ rows: TraceRow[]; lost: number }>('trace.read');
          for (const row of read.rows.slice(0, left))
            io.out(`${config.json ? JSON.stringify(row) : traceText(row)}\n`);
          left -= read.rows.length;
          if (read.lost > lost) {
            io.warn(`${read.lost - lost} packets more than could be told of`);
            lost = read.lost;
          }
          if (left <= 0) break;
          if (!last) await pause(io.stop);
        }
        await client.ask('trace.stop');
        return undefined;
      });
    });
  addFlags(trace, outputSchema);
  trace.addHelpText(
    'after',
    `
The gate is exchanged for one that tells, and back at the end: it costs nothing otherwise. Fragments and cut packets of the same
addresses match any port. With --json a line for each packet.

Examples:
  sluice gate trace --flow 'tcp 10.0.0.1:443 10.0.0.2:51000'
  sluice gate trace --host 2001:db8::1 --count 100 --json`,
  );
}

/** A flow for a trace is less than one for a shunt: ports may be left out, and the protocol may be any. */
export function filterOf({ flow, host }: TraceOptions): RequestOf<'trace.start'> {
  if (flow !== undefined && host !== undefined)
    throw new SluiceError('USAGE', 'name a --flow or a --host, not both');
  if (host !== undefined) return { a: { addr: host } };
  if (flow === undefined) return {};
  const [proto = '', a = '', b = '', more] = flow.trim().split(/\s+/);
  if (proto === '' || a === '' || b === '' || more !== undefined) throw noFlow(flow);
  return {
    ...(proto === 'any' ? {} : { proto: proto.toLowerCase() }),
    a: endpoint(a, flow),
    b: endpoint(b, flow),
  };
}

function endpoint(text: string, flow: string): { addr: string; port?: number } {
  if (isIP(text) !== 0) return { addr: text };
  const [, v6, v4, digits] = /^(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+))(?::(\d{1,5}))?$/.exec(text) ?? [];
  const addr = v6 ?? v4 ?? '';
  if (isIP(addr) === 0 || Number(digits ?? 0) > 65_535) throw noFlow(flow);
  return digits === undefined ? { addr } : { addr, port: Number(digits) };
}

const noFlow = (flow: string): SluiceError =>
  new SluiceError('USAGE', `'${flow}' does not name a flow`, {
    help: "a flow to trace is written 'tcp 10.0.0.1:443 10.0.0.2:51000', 'udp 10.0.0.1 10.0.0.2:53' or 'any 10.0.0.1 10.0.0.2'",
  });

function pause(stop: AbortSignal): Promise<void> {
  return new Promise((done) => {
    const timer = setTimeout(end, POLL_MS);
    function end(): void {
      clearTimeout(timer);
      stop.removeEventListener('abort', end);
      done();
    }
    stop.addEventListener('abort', end, { once: true });
  });
}

function address(text: string): string {
  if (isIP(text) === 0) throw new InvalidArgumentError('not an IP address');
  return text;
}
