import { Argument } from 'commander';
import { outputSchema, runSchema } from '../../base/config.ts';
import { readConfigFile } from '../../base/config-file.ts';
import { kebab, resolveConfig } from '../../base/config-resolve.ts';
import { configJsonSchema, configYaml, keysOf, valueText } from '../../base/config-text.ts';
import { SluiceError } from '../../base/errors.ts';
import type { Register } from '../command.ts';
import { addFlags, configOf } from '../flags.ts';

/** `sluice config check|show|schema`. */
export const registerConfig: Register = (program, host) => {
  const config = program
    .command('config')
    .description('Check, print or describe the configuration (sluice.yaml).');

  const check = config
    .command('check')
    .description('Check a configuration file.')
    .addArgument(new Argument('[FILE]', 'the file; or name it with --config'))
    .action(async (file: string | undefined) => {
      const { config: output } = configOf(check, outputSchema);
      await host.run(output, async (io) => {
        const path = file ?? check.opts<{ config?: string }>().config;
        if (path === undefined) {
          throw new SluiceError('USAGE', 'no configuration file named', {
            help: 'sluice config check sluice.yaml',
          });
        }
        const read = readConfigFile(path);
        resolveConfig(runSchema, {}, read);
        if (output.json)
          io.out(`${JSON.stringify({ file: path, valid: true, settings: read.entries.size })}\n`);
        else
          io.say(`${path}: valid, ${read.entries.size} ${read.entries.size === 1 ? 'setting' : 'settings'}`);
        return undefined;
      });
    });
  addFlags(check, outputSchema);
  check.addHelpText('after', '\nExample:\n  sluice config check sluice.yaml');

  const show = config
    .command('show')
    .description('Print the configuration that would be in force: flags over the file over defaults.')
    .action(async () => {
      const { config: settings, origin } = configOf(show, runSchema);
      await host.run(settings, async (io) => {
        if (!settings.json) {
          io.out(configYaml(runSchema, settings, origin));
          return undefined;
        }
        const values: Record<string, unknown> = {};
        for (const { name, key, meta } of keysOf(runSchema)) {
          const value = (settings as Record<string, unknown>)[name];
          if (value !== undefined)
            values[key] = typeof value === 'number' && meta.unit !== 'none' ? valueText(meta, value) : value;
        }
        const origins = Object.fromEntries(Object.entries(origin).map(([name, from]) => [kebab(name), from]));
        io.out(`${JSON.stringify({ config: values, origin: origins }, null, 2)}\n`);
        return undefined;
      });
    });
  addFlags(show, runSchema);
  show.addHelpText('after', '\nExample:\n  sluice config show --config sluice.yaml --lease 5s');

  const schema = config
    .command('schema')
    .description('Print the JSON Schema of the configuration file, for editors.')
    .action(async () => {
      const { config: output } = configOf(schema, outputSchema);
      await host.run(output, async (io) => {
        io.out(`${JSON.stringify(configJsonSchema(), null, 2)}\n`);
        return undefined;
      });
    });
  addFlags(schema, outputSchema);
  schema.addHelpText('after', '\nExample:\n  sluice config schema > sluice.schema.json');

  config.addHelpText(
    'after',
    `
Examples:
  sluice config check sluice.yaml
  sluice config show --config sluice.yaml --lease 5s
  sluice config schema > sluice.schema.json`,
  );
};
