import { closeSync, openSync, writeSync } from 'node:fs';
import { type Command, Option } from 'commander';
import { outputSchema } from '../../base/config.ts';
import { SluiceError } from '../../base/errors.ts';
import type { RuleRow } from '../../gate/control-protocol.ts';
import { PcapngWriter } from '../../packet/pcapng-writer.ts';
import { wholeNumber } from '../arguments.ts';
import type { CommandHost } from '../command.ts';
import { configOf } from '../flags.ts';
import { withGate } from '../gate-choice.ts';

const MOST_SAMPLES = 999_999_999;

interface Options {
  interface?: string;
  write: string;
  count?: number;
}

/** `sluice rule samples`: what rules of action sample choose, as a capture file. */
export function registerRuleSamples(rule: Command, host: CommandHost): void {
  const samples = rule
    .command('samples')
    .description(
      'Write what rules of action sample choose to a pcapng file, each with its rule, until Ctrl-C.',
    )
    .addOption(new Option('-w, --write <FILE>', 'The file; - is stdout.').makeOptionMandatory())
    .addOption(new Option('--count <N>', 'Stop after so many.').argParser(wholeNumber(1, MOST_SAMPLES)))
    .action(async () => {
      const { config } = configOf(samples, outputSchema);
      const given = samples.opts<Options>();
      await host.run(config, async (io) => {
        const { findPlace } = await import('../../gate/control-places.ts');
        const { ControlClient } = await import('../../gate/control-client.ts');
        const { RuleSamples } = await import('../../gate/rule-samples.ts');
        const place = findPlace(given.interface);
        using client = await ControlClient.connect(place);
        const ids = new Map<number, string>();
        const learn = (): Promise<unknown> =>
          client.ask('rule.list', {}, (page) => {
            for (const { id, number } of page as RuleRow[]) if (number !== null) ids.set(number, id);
          });
        await learn();
        const writer = new PcapngWriter({
          application: 'sluice',
          interfaces: [
            {
              name: place.interfaces.map(({ ifname }) => ifname).join(),
              nano: true,
              comment: 'samples of rules',
            },
          ],
        });
        const out = open(given.write);
        let written = 0;
        const { promise: enough, resolve } = Promise.withResolvers<void>();
        try {
          writeAll(out, writer.header());
          const reader = new RuleSamples(place, ({ number, ts, length, bytes }) => {
            if (given.count !== undefined && written >= given.count) return;
            const id = ids.get(number) ?? String(number);
            writeAll(out, writer.record({ ts, bytes, wirelen: length }, 0, `rule ${id}`));
            if (++written === given.count) resolve();
          });
          // Rules that are added meanwhile, and samples whose wake-up got lost.
          const timer = setInterval(() => {
            reader.poll();
            learn().catch(() => resolve());
          }, 1000);
          try {
            io.say('ready');
            io.stop.addEventListener('abort', () => resolve(), { once: true });
            if (io.stop.aborted) resolve();
            await Promise.race([enough, client.closed]);
            reader.poll();
          } finally {
            clearInterval(timer);
            reader.close();
          }
        } finally {
          if (given.write !== '-') closeSync(out);
        }
        if (config.json && given.write !== '-') io.out(`${JSON.stringify({ samples: written })}\n`);
        else io.say(`${written} ${written === 1 ? 'sample' : 'samples'}`);
        return undefined;
      });
    });
  withGate(samples);
  samples.addHelpText(
    'after',
    `
Examples:
  sluice rule add 'udp src port 123' --action sample=100,size=128B
  sluice rule samples -w ntp.pcapng
  sluice rule samples -w - | tcpdump -nr -`,
  );
}

function open(path: string): number {
  if (path === '-') return 1;
  try {
    return openSync(path, 'w', 0o640);
  } catch (cause) {
    throw new SluiceError('FILE', `cannot write ${path}`, { cause });
  }
}

function writeAll(fd: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
}
