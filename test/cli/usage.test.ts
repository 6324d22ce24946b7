import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { readSchema, runSchema } from '../../src/base/config.ts';
import { keysOf } from '../../src/base/config-text.ts';
import { sluice } from '../support/command.ts';

const dir = mkdtempSync(join(tmpdir(), 'sluice-usage-'));
afterAll(() => rmSync(dir, { recursive: true }));

function file(name: string, text: string): string {
  const path = join(dir, name);
  writeFileSync(path, text);
  return path;
}

describe('usage errors exit with 2, say what and what next', () => {
  it.each<[string, string[], string, string]>([
    ['no command', [], 'no command given', 'sluice --help'],
    ['an unknown command', ['raed', 'x'], "unknown command 'raed'", 'did you mean read?'],
    [
      'an unknown flag',
      ['read', '--log-dri', 'd', 'x'],
      "unknown option '--log-dri'",
      'did you mean --log-dir?',
    ],
    [
      'a flag without its argument',
      ['read', 'x', '--log-dir'],
      "option '--log-dir <DIR>' argument missing",
      '--help',
    ],
    ['no file', ['read'], "missing required argument 'FILE'", '--help'],
    ['too many arguments', ['config', 'schema', 'x'], 'too many arguments', '--help'],
    ['an interface without -i', ['run', 'eth0'], 'must be a mirror over UDP', 'configuration.md'],
    ['a group of commands alone', ['config'], 'a command is missing', '--help'],
    [
      'a value out of range',
      ['run', '--workers', '0'],
      '--workers: must be from 1 to 256',
      'configuration.md',
    ],
    [
      'two flags that exclude each other',
      ['run', '--quiet', '--verbose'],
      '--quiet does not go together with --verbose',
      'configuration.md',
    ],
    // Before a lab is made, or an interface looked for.
    ['an API nowhere', ['run', '--api', '99999'], '--api 99999 is no address to listen on', 'unix:/PATH'],
    [
      'an API for everybody',
      ['run', '-i', 'nothing0', '--api', '0.0.0.0:9900'],
      'would let everybody in',
      '--api-token-file',
    ],
    ['a tap that is not named', ['run', '--tap'], '--tap needs --interface', 'configuration.md'],
  ])('%s', async (_, args, message, help) => {
    const { code, stdout, stderr } = await sluice(...args);
    expect(code).toBe(2);
    expect(stdout).toBe('');
    const lines = stderr.trimEnd().split('\n');
    expect(lines[0]).toMatch(/^error\[USAGE\]: /);
    expect(lines[0]).toContain(message);
    expect(lines.at(-1)).toMatch(/^help: /);
    expect(lines.at(-1)).toContain(help);
  });

  it('with --json the same is a document on stdout', async () => {
    const { code, stdout } = await sluice('read', '--json', '--log-dri', 'd', 'x');
    expect(code).toBe(2);
    expect(JSON.parse(stdout)).toEqual({
      error: { code: 'USAGE', message: "unknown option '--log-dri'", help: 'did you mean --log-dir?' },
    });
  });
});

describe('help', () => {
  it('goes to stdout with every flag of the command and examples', async () => {
    for (const [command, schema] of [
      ['run', runSchema],
      ['read', readSchema],
    ] as const) {
      const { code, stdout, stderr } = await sluice(command, '--help');
      expect(code).toBe(0);
      expect(stderr).toBe('');
      for (const { key, meta, preset } of keysOf(schema)) {
        expect(stdout).toContain(meta.kind === 'switch' && preset === 'true' ? `--no-${key}` : `--${key}`);
      }
      expect(stdout).toContain('Examples:');
    }
  });

  it('of the program lists the commands', async () => {
    const { code, stdout } = await sluice('--help');
    expect(code).toBe(0);
    for (const command of ['run', 'read', 'config'])
      expect(stdout).toMatch(new RegExp(`^  ${command} `, 'm'));
    expect(await sluice('help')).toMatchObject({ code: 0, stdout });
  });

  it('has the version of the package', async () => {
    const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
      version: string;
    };
    expect(await sluice('--version')).toMatchObject({ code: 0, stdout: `${version}\n` });
  });
});

/** Every command that has no commands below it, as the help names them. */
async function everyCommand(above: readonly string[] = []): Promise<string[][]> {
  const { stdout } = await sluice(...above, '--help');
  const [, list = ''] = stdout.split(/^Commands:$/m);
  const names = [...list.split(/^\S/m)[0].matchAll(/^ {2}([a-z][a-z-]*)/gm)].map(([, name]) => name);
  const below = names.filter((name) => name !== 'help').map((name) => [...above, name]);
  if (below.length === 0) return [[...above]];
  return (await Promise.all(below.map(everyCommand))).flat();
}

it('every command has help with an example, and says which option it does not know', async () => {
  const commands = await everyCommand();
  expect(commands.length).toBeGreaterThan(50);
  for (const command of commands) {
    const help = await sluice(...command, '--help');
    expect([command, help.code, help.stderr]).toEqual([command, 0, '']);
    const [, examples = ''] = help.stdout.split(/^Examples?:$/m);
    expect(examples, `no example: ${command.join(' ')}`).toContain(`sluice ${command.join(' ')}`);
    const bad = await sluice(...command, '--no-such-option');
    expect([command, bad.code, bad.stdout]).toEqual([command, 2, '']);
    expect(bad.stderr).toMatch(
      /^error\[USAGE\]: (?:unknown option '--no-such-option'|required option .* not specified)\nhelp: /,
    );
  }
});

describe('sluice config', () => {
  it('check accepts a good file and names what is wrong in a bad one', async () => {
    const good = file('good.yaml', 'interface: [eth1]\ntap: true\nlease: 3s\n');
    expect(await sluice('config', 'check', good)).toMatchObject({ code: 0, stdout: '' });
    const json = await sluice('config', 'check', '--config', good, '--json');
    expect(JSON.parse(json.stdout)).toEqual({ file: good, valid: true, settings: 3 });
    const bad = file('bad.yaml', 'interface: eth1\nleese: 3s\n');
    const { code, stderr } = await sluice('config', 'check', bad);
    expect(code).toBe(2);
    expect(stderr).toBe(`error[USAGE]: ${bad}:2: unknown key 'leese'\nhelp: did you mean 'lease'?\n`);
    expect((await sluice('config', 'check')).code).toBe(2);
    expect(await sluice('config', 'check', join(dir, 'missing.yaml'))).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('error[FILE]'),
    });
  });

  it('show prints what is in force, as a file that gives it again', async () => {
    const path = file('show.yaml', 'lease: 3s\nmode: native\n');
    const { code, stdout } = await sluice(
      'config',
      'show',
      '--config',
      path,
      '--mode',
      'generic',
      '-i',
      'eth1,eth2',
      '-i',
      'eth3',
    );
    expect(code).toBe(0);
    expect(parse(stdout)).toMatchObject({
      lease: '3s',
      mode: 'generic',
      interface: ['eth1', 'eth2', 'eth3'],
      policy: ['tls', 'quic', 'bulk=1MB'],
    });
    const again = await sluice('config', 'show', '--config', file('again.yaml', stdout), '--json');
    expect(JSON.parse(again.stdout)).toMatchObject({
      config: { lease: '3s', mode: 'generic', 'ring-bytes': '64MiB' },
      origin: { lease: 'file', mode: 'file' },
    });
    const json = await sluice('config', 'show', '--config', path, '--mode', 'generic', '--json');
    expect(JSON.parse(json.stdout)).toMatchObject({
      origin: { lease: 'file', mode: 'flag', workers: 'default' },
    });
  });

  it('lets a flag turn off what the file turns on, and the other way', async () => {
    const path = file('switches.yaml', 'tap: true\ninterface: eth1\ngate: false\n');
    const { stdout } = await sluice('config', 'show', '--config', path, '--no-tap', '--gate', '--json');
    expect(JSON.parse(stdout)).toMatchObject({
      config: { tap: false, gate: true },
      origin: { tap: 'flag', gate: 'flag' },
    });
  });

  it('schema is a JSON Schema that has every key', async () => {
    const { code, stdout } = await sluice('config', 'schema');
    expect(code).toBe(0);
    expect(Object.keys((JSON.parse(stdout) as { properties: object }).properties)).toEqual(
      keysOf(runSchema).map(({ key }) => key),
    );
  });
});

it('the built program runs', () => {
  const bin = fileURLToPath(new URL('../../bin/sluice.js', import.meta.url));
  expect(execFileSync(process.execPath, [bin, '--version'], { encoding: 'utf8' })).toMatch(
    /^\d+\.\d+\.\d+\n$/,
  );
});
