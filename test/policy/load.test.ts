import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { SluiceError } from '../../src/base/errors.ts';
import { loadPolicies, PolicySet, setsOf } from '../../src/policy/index.ts';
import { address, facts } from './facts.ts';

const directory = mkdtempSync(join(tmpdir(), 'sluice-test-'));
afterAll(() => rmSync(directory, { recursive: true }));

function file(name: string, text: string): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
}

file('nets.txt', '# mine\n10.0.0.0/8  the office\n\n2001:db8::/32\n');
file('films.txt', 'films.example\n*.cinema.example\n');
file('ja3.txt', 'abc\n');
file(
  'some.rules',
  'alert http any any -> any any (content:"netdevconf.org"; http_host; bypass; sid:6666; rev:1;)\n',
);
const WHOLE = `
sets:
  mine: { prefixes: nets.txt }
  films: { domains: films.txt }
  odd: { words: ja3.txt }
  talk: { suricata: some.rules, vars: { HOME_NET: 10.0.0.0/8 } }
policies:
  - preset: tls=-socks
    priority: 5
  - preset: bulk=5MB
    name: huge
    dryRun: true
  - { name: films, when: tls.sni in @films, share: 0.9, budget: { perSecond: 100 } }
  - { name: quiet, when: addr in @mine and tls.ja3 in @odd, action: never }
  - { name: backup, when: resp.port == 873, action: pair, for: 10m, schedule: "22:00-06:00" }
  - { name: talk, when: signature in @talk, trigger: SURICATA }
  - preset: ssh
    action: arm
    after: 500kB
    share: 0.5
    budget: { live: 10 }
    schedule: "22:00-06:00"
`;

describe('policy files', () => {
  test('policies, presets and sets of all kinds; those of --policy come behind', async () => {
    const plan = await loadPolicies(['bulk=1MB'], [file('whole.yaml', WHOLE)]);
    expect(plan.specs.map(({ name, action }) => `${name} ${action}`)).toEqual([
      'tls shunt',
      'huge shunt',
      'films shunt',
      'quiet never',
      'backup pair',
      'talk shunt',
      'ssh arm',
      'bulk shunt',
    ]);
    expect(plan.specs[6]).toMatchObject({
      when: 'ssh.encrypted',
      trigger: 'SSH_ENCRYPTED',
      share: 0.5,
      budget: { live: 10 },
      schedule: '22:00-06:00',
    });
    expect(plan.specs[4]).toMatchObject({ for: 600 });
    const set = new PolicySet(plan.specs, setsOf(structuredClone(plan)));
    const none = { noted: () => {}, spared: () => {} };
    const decide = (known: Parameters<typeof facts>[0]) => set.decide(facts(known), 0, 0, new Set(), none);
    expect(decide({ serverName: 'a.cinema.example' })).toBe(2);
    expect(decide({ serverName: 'a.cinema.example', ja3: 'abc', orig: address('2001:db8::1') })).toBe(-2);
    expect(decide({ services: ['http'], httpHost: 'netdevconf.org', respPackets: 1 })).toBe(5);
    expect(set.trigger(5)).toBe('SURICATA');
  });

  test.each<[string, string, string, RegExp]>([
    ['not YAML', 'policies: [', 'FILE_FORMAT', /is not YAML/],
    ['no list', 'policies: 5', 'FILE_FORMAT', /policies/],
    ['an unknown key', 'policies: []\npolicy: []', 'FILE_FORMAT', /policy/],
    [
      'an unknown action',
      'policies: [{ name: a, when: service, action: drop }]',
      'FILE_FORMAT',
      /policies\.0/,
    ],
    ['pair without a time', 'policies: [{ name: a, when: service, action: pair }]', 'FILE_FORMAT', /for/],
    ['a time without pair', 'policies: [{ name: a, when: service, for: 5s }]', 'FILE_FORMAT', /for/],
    [
      'a preset that is armed without a size',
      'policies: [{ preset: tls, action: arm }]',
      'FILE_FORMAT',
      /after/,
    ],
    ['a share of nothing', 'policies: [{ name: a, when: service, share: 0 }]', 'FILE_FORMAT', /share/],
    ['an unknown preset', 'policies: [{ preset: tsl }]', 'USAGE', /tsl/],
    [
      'two of a name',
      'policies: [{ name: a, when: service }, { name: a, when: service }]',
      'USAGE',
      /two policies 'a'/,
    ],
    ['a condition', 'policies: [{ name: a, when: bytes >= lots }]', 'POLICY_INVALID', /policy 'a'.*lots/],
    ['a schedule', 'policies: [{ name: a, when: service, schedule: noon }]', 'USAGE', /policy 'a'.*schedule/],
    [
      'a set that is not there',
      'sets: { x: { prefixes: nowhere.txt } }\npolicies: []',
      'FILE',
      /nowhere\.txt/,
    ],
    [
      'a set with a wrong line',
      'sets: { x: { prefixes: films.txt } }\npolicies: []',
      'FILE_FORMAT',
      /line 1: 'films\.example'/,
    ],
    [
      'a set of another kind',
      'sets: { x: { domains: films.txt } }\npolicies: [{ name: a, when: addr in @x }]',
      'POLICY_INVALID',
      /no set of prefixes 'x'/,
    ],
    [
      'a mistyped key',
      'policies:\n  - preset: tls\n  - name: a\n    whem: service\n',
      'FILE_FORMAT',
      /wrong\.yaml:4: policies\.1: .*'whem', did you mean 'when'/,
    ],
    [
      'a missing key',
      'policies:\n  - name: a\n',
      'FILE_FORMAT',
      /wrong\.yaml:2: policies\.0\.when: is missing/,
    ],
    [
      'a value',
      'policies:\n  - name: a\n    when: service\n    share: 2\n',
      'FILE_FORMAT',
      /wrong\.yaml:4: policies\.0\.share/,
    ],
    [
      'a key that presets do not have',
      'policies: [{ preset: tls, when: service }]',
      'FILE_FORMAT',
      /no key 'when'/,
    ],
    [
      'a set of no kind',
      'sets:\n  x: { prefix: a }\npolicies: []',
      'FILE_FORMAT',
      /wrong\.yaml:2: sets\.x: .*words/,
    ],
    ['the place of a preset', 'policies:\n\n  - preset: tsl', 'USAGE', /wrong\.yaml:3: .*tsl/],
    [
      'the place of a condition',
      'policies:\n  - preset: tls\n  - { name: a, when: bytes >= lots }',
      'POLICY_INVALID',
      /wrong\.yaml:3: policy 'a'/,
    ],
    [
      'aliases that stand for too much',
      `${['', 'a', 'b', 'c', 'd']
        .map((name, i, names) =>
          i === 0
            ? ''
            : `${name}: &${name} [${Array(12)
                .fill(i === 1 ? '1' : `*${names[i - 1]}`)
                .join(', ')}]`,
        )
        .join('\n')}\npolicies: *d`,
      'FILE_FORMAT',
      /alias/,
    ],
  ])('%s', async (_, text, code, message) => {
    const error = await loadPolicies([], [file('wrong.yaml', text)]).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(SluiceError);
    expect(error).toMatchObject({ code, message: expect.stringMatching(message) as string });
  });

  test('sets are read anew with each load', async () => {
    const policies = file(
      'anew.yaml',
      `sets: { nets: { prefixes: anew.txt }, names: { domains: names.txt } }
policies:
  - { name: nets, when: resp.addr in @nets }
  - { name: names, when: tls.sni in @names }`,
    );
    const none = { noted: () => {}, spared: () => {} };
    const decided = async (prefix: string, domain: string) => {
      file('anew.txt', `${prefix}\n`);
      file('names.txt', `${domain}\n`);
      const plan = await loadPolicies([], [policies]);
      const set = new PolicySet(plan.specs, setsOf(plan));
      const known = { serverName: 'a.lab.example', learning: false };
      return [address('192.0.2.7'), address('2001:db8::7')].map((resp) =>
        set.decide(facts({ ...known, resp }), 0, 0, new Set(), none),
      );
    };
    expect(await decided('192.0.2.0/24', 'lab.test')).toEqual([0, -2]);
    expect(await decided('2001:db8::/32', 'lab.test')).toEqual([-2, 0]);
    expect(await decided('10.0.0.0/8', 'lab.example')).toEqual([1, 1]);
  });

  test('two files with a set of the same name', async () => {
    const set = 'sets: { x: { domains: films.txt } }\npolicies: []';
    const both = [file('one.yaml', set), file('two.yaml', set)];
    await expect(loadPolicies([], both)).rejects.toMatchObject({
      code: 'FILE_FORMAT',
      message: expect.stringMatching(/two\.yaml:1: .*'x' in another/) as string,
    });
  });

  test('a file that is not there', async () => {
    await expect(loadPolicies([], [join(directory, 'none.yaml')])).rejects.toMatchObject({ code: 'FILE' });
  });
});
