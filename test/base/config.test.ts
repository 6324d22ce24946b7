import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { stalePages } from '../../scripts/gen-docs.ts';
import { readSchema, runSchema } from '../../src/base/config.ts';
import { parseConfig, readConfigFile } from '../../src/base/config-file.ts';
import { CONFIG_KEYS, type GivenFlags, resolveConfig } from '../../src/base/config-resolve.ts';
import { configJsonSchema, configYaml, keysOf } from '../../src/base/config-text.ts';
import { ERROR_CODES, SluiceError } from '../../src/base/errors.ts';
import { nearest } from '../../src/base/suggest.ts';

const dir = mkdtempSync(join(tmpdir(), 'sluice-config-'));
afterAll(() => rmSync(dir, { recursive: true }));

const run = (flags: GivenFlags = {}, yaml?: string) =>
  resolveConfig(runSchema, flags, yaml === undefined ? undefined : parseConfig('sluice.yaml', yaml));

function failure(act: () => unknown): SluiceError {
  try {
    act();
  } catch (error) {
    if (error instanceof SluiceError) return error;
    throw error;
  }
  throw new Error('it was accepted');
}

describe('the configuration', () => {
  it('has the documented defaults', () => {
    expect(run().config).toMatchObject({
      interface: [],
      source: [],
      healthPort: undefined,
      tap: false,
      duration: undefined,
      workers: 1,
      capture: 'ring',
      ringBytes: 64 * 2 ** 20,
      ringBlock: 131_072,
      retire: 0.01,
      policy: ['tls', 'quic', 'bulk=1MB'],
      shuntFields: 'within',
      gate: true,
      mode: 'auto',
      lease: 2,
      maxShunts4: 65_536,
      maxShunts6: 16_384,
      checksums: true,
      bare: false,
      vlanKey: false,
      timeoutTcp: 300,
      timeoutTcpAttempt: 5,
      timeoutUdp: 60,
      timeoutIcmp: 60,
      logDir: './logs',
    });
  });

  it('takes a flag over the file over the default, and says where each came from', () => {
    const { config, origin } = run(
      { lease: '3s' },
      'lease: 10s\nmax-shunts4: 100\ninterface: [eth1, eth2]\nlocal-nets: 192.0.2.0/24,2001:db8::/32\n',
    );
    expect(config).toMatchObject({
      lease: 3,
      maxShunts4: 100,
      interface: ['eth1', 'eth2'],
      localNets: ['192.0.2.0/24', '2001:db8::/32'],
      workers: 1,
    });
    expect(origin).toMatchObject({ lease: 'flag', maxShunts4: 'file', workers: 'default' });
  });

  it('serves a command that has only some of the keys, and still checks the others', () => {
    const { config } = resolveConfig(readSchema, {}, parseConfig('s.yaml', 'lease: 10s\nlog-dir: out\n'));
    expect(config.logDir).toBe('out');
    expect(config).not.toHaveProperty('lease');
    expect(
      failure(() => resolveConfig(readSchema, {}, parseConfig('s.yaml', 'lease: soon\n'))).message,
    ).toContain('s.yaml:1: lease');
  });

  it('names an unknown key by line and suggests the one that was meant', () => {
    const error = failure(() => run({}, 'lease: 2s\nlog-dri: x\n'));
    expect(error).toMatchObject({
      code: 'USAGE',
      message: "sluice.yaml:2: unknown key 'log-dri'",
      help: "did you mean 'log-dir'?",
    });
    expect(failure(() => run({}, 'logDir: x\n')).help).toBe("did you mean 'log-dir'?");
    expect(failure(() => run({}, 'zzzzzz: x\n')).help).toContain('sluice config schema');
  });

  it('reports every problem at once', () => {
    const error = failure(() => run({ mode: 'fast' }, 'lease: never\nworkers: 0\nnope: 1\n'));
    expect(error.message).toBe('4 settings are not valid');
    for (const part of [
      '--mode:',
      'sluice.yaml:1: lease:',
      'sluice.yaml:2: workers:',
      "sluice.yaml:3: unknown key 'nope'",
    ]) {
      expect(error.cause).toContain(part);
    }
  });

  it.each<[string, GivenFlags, string[]]>([
    ['quiet and verbose', { quiet: true, verbose: true }, ['--quiet', '--verbose']],
    ['no gate and a mode', { gate: false, mode: 'native' }, ['--no-gate', '--mode']],
    ['a ring of no whole blocks', { ringBytes: '3MiB', ringBlock: '2MiB' }, ['--ring-bytes', '--ring-block']],
    ['neither lease nor idle limit', { lease: 'off', shuntIdle: 'off' }, ['--lease', '--shunt-idle']],
    ['a tap without interface', { tap: true }, ['--tap', '--interface']],
    [
      'a mode without a gate to have it',
      { source: ['udp://0.0.0.0'], mode: 'native' },
      ['--mode', '--interface'],
    ],
    [
      'a mirror behind a filter on its own socket',
      { source: ['udp://0.0.0.0'], mode: 'socket', mirrorGate: 'eth0' },
      ['--mode', '--mirror-gate'],
    ],
    ['AF_XDP for a mirror', { source: ['udp://0.0.0.0'], capture: 'afxdp' }, ['--capture', '--interface']],
    ['a larger ring for a mirror', { source: ['udp://0.0.0.0'], ringBytes: '128MiB' }, ['--ring-bytes']],
    ['pinned workers for a mirror', { source: ['udp://0.0.0.0'], pinWorkers: '0' }, ['--pin-workers']],
    ['a fanout for a mirror', { source: ['udp://0.0.0.0'], fanout: 'hash' }, ['--fanout', '--interface']],
    ['none beside another policy', { policy: ['none', 'tls'] }, ['--policy']],
  ])('refuses %s, naming both', (_, flags, names) => {
    const error = failure(() => run(flags));
    expect(error.code).toBe('USAGE');
    for (const name of names) expect(error.message).toContain(name);
  });

  it('takes a mirror with what is preset for rings', () => {
    expect(
      run({ source: ['udp://0.0.0.0'], ringBytes: '64MiB', pinWorkers: 'off' }).config.source,
    ).toHaveLength(1);
  });

  it('names the line of the file in a conflict, and lets a flag win over the file', () => {
    expect(failure(() => run({}, 'quiet: true\nverbose: true\n')).message).toMatch(
      /sluice\.yaml:1: quiet .* sluice\.yaml:2: verbose/,
    );
    expect(run({ quiet: true }, 'verbose: true\n').config).toMatchObject({ quiet: true, verbose: false });
    expect(run({ gate: false }, 'mode: native\n').config).toMatchObject({ gate: false, mode: 'auto' });
  });

  it.each<[GivenFlags, string]>([
    [{ interface: ['a/b'] }, 'network interface'],
    [{ interface: ['sixteencharacter'] }, 'network interface'],
    [{ localNets: ['10.0.0.0/33'] }, 'prefix length'],
    [{ localNets: ['10.0.0.0'] }, 'prefix length'],
    [{ localNets: ['2001:db8::/129'] }, 'prefix length'],
    [{ policy: ['Bulk=1'] }, 'NAME'],
    [{ ringBlock: '100000' }, 'power of two'],
    [{ workers: '1.5' }, 'whole number'],
    [{ workers: '257' }, 'from 1 to 256'],
    [{ retire: '2s' }, 'from 1ms to 1s'],
    [{ lease: '2h' }, 'from 100ms to 1h, or off'],
    [{ shuntIdle: 'never' }, 'shunt-idle'],
    [{ logDir: '' }, 'log-dir'],
  ])('refuses %j', (flags, part) => expect(failure(() => run(flags)).message).toContain(part));
});

describe('the configuration file', () => {
  it('refuses what is no YAML map with the line', () => {
    expect(failure(() => parseConfig('x', 'a: 1\na: 2\n')).message).toMatch(/^x:2: /);
    expect(failure(() => parseConfig('x', 'a: [1\nb: 2\n')).message).toMatch(/^x:\d+: /);
    expect(failure(() => parseConfig('x', '- 1\n')).message).toContain('not a list of settings');
    expect(parseConfig('x', '').entries.size).toBe(0);
    expect(run({}, 'lease:\n').config.lease).toBe(2);
    expect(run({ shuntIdle: 'off' }, 'lease: 300ms\n').config).toMatchObject({
      lease: 0.3,
      shuntIdle: 'off',
    });
    expect(run({}, 'lease: off\n').config).toMatchObject({ lease: 'off', shuntIdle: 300 });
  });

  it('does not blow up on aliases', () => {
    const bomb = [
      'a: &a [x,x,x,x,x,x,x,x,x]',
      ...'bcdefghij'
        .split('')
        .map((c, i) => `${c}: &${c} [${Array(9).fill(`*${'abcdefghij'[i]}`).join(',')}]`),
    ];
    expect(failure(() => parseConfig('x', bomb.join('\n'))).code).toBe('USAGE');
  });

  it('never throws anything but a coded error, whatever the text', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.string({ unit: fc.constantFrom(...'a:-[]{}&*!|>\'"#%@`,? \n\t'.split('')) }),
        ),
        (text) => {
          try {
            resolveConfig(runSchema, {}, parseConfig('x', text));
          } catch (error) {
            return error instanceof SluiceError && error.code === 'USAGE';
          }
          return true;
        },
      ),
      { numRuns: 500 },
    );
  });

  it('is FILE when it cannot be read, and is limited in size', () => {
    expect(failure(() => readConfigFile(join(dir, 'missing'))).code).toBe('FILE');
    writeFileSync(join(dir, 'large'), '#'.repeat(1_000_001));
    expect(failure(() => readConfigFile(join(dir, 'large'))).message).toContain('too large');
  });
});

describe('what is made of the declaration', () => {
  it('prints a file that gives the same configuration again', () => {
    const made = run({
      interface: ['eth1'],
      tap: true,
      lease: '2500ms',
      policy: ['bulk=5MB'],
      gate: true,
      duration: '90',
    });
    const again = run({}, configYaml(runSchema, made.config, made.origin));
    expect(again.config).toEqual(made.config);
  });

  it('has a help text, a group and a flag name for every key', () => {
    for (const info of keysOf(runSchema)) {
      expect(info.meta.help, info.key).toMatch(/^[A-Z].*\.$/s);
      expect(info.key).toMatch(/^[a-z][a-z0-9-]*$/);
      if (info.meta.kind !== 'switch') expect(info.meta.arg, info.key).toBeTruthy();
    }
  });

  it('describes every key in the JSON Schema', () => {
    const schema = configJsonSchema() as {
      properties: Record<string, { description: string }>;
      additionalProperties: boolean;
    };
    expect(Object.keys(schema.properties)).toEqual(CONFIG_KEYS);
    expect(schema.additionalProperties).toBe(false);
    expect(schema.properties.mode).toMatchObject({
      enum: ['auto', 'native', 'generic', 'offload', 'socket'],
      default: 'auto',
    });
  });

  it('is what docs/configuration.md and docs/errors.md say (npm run docs)', () => {
    expect(stalePages()).toEqual([]);
  });
});

describe('error codes', () => {
  it('have an exit code of the contract and a sentence', () => {
    for (const [code, { exit, meaning }] of Object.entries(ERROR_CODES)) {
      expect([1, 2, 3], code).toContain(exit);
      expect(meaning, code).toMatch(/^[A-Z].*\.$/);
    }
  });
});

describe('suggestions', () => {
  it.each([
    ['log-dri', 'log-dir'],
    ['logdir', 'log-dir'],
    ['LOG_DIR', 'log-dir'],
    ['leas', 'lease'],
    ['max-shunts', 'max-shunts4'],
  ])('%s was %s', (typed, meant) => expect(nearest(typed, CONFIG_KEYS)).toBe(meant));

  it('stay away when nothing is near', () => {
    expect(nearest('xylophone', CONFIG_KEYS)).toBeUndefined();
    expect(nearest('x'.repeat(10_000), CONFIG_KEYS)).toBeUndefined();
  });
});
