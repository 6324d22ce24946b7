import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { conversation } from '../../src/packet/conversation.ts';
import { pcapFile } from '../../src/packet/pcap.ts';
import { FIELDS, PRESETS } from '../../src/policy/index.ts';
import type { WhatIfDocument } from '../../src/sensor/what-if-report.ts';
import { sluice } from '../support/command.ts';

const dir = mkdtempSync(join(tmpdir(), 'sluice-policy-'));
afterAll(() => rmSync(dir, { recursive: true }));

function file(name: string, content: string | Uint8Array): string {
  const path = join(dir, name);
  writeFileSync(path, content);
  return path;
}

const SIGNED = `
sets:
  talk: { suricata: some.rules, vars: { HOME_NET: '[10.0.0.0/8]' } }
policies:
  - { name: talk, when: signature in @talk }
`;

/** Connections without what is made anew each time. */
const conn = (path: string) => readFileSync(join(path, 'conn.log'), 'utf8').replaceAll(/"uid":"\w+"/g, '');

test('presets and fields: all of them, each with what it means', async () => {
  const presets = await sluice('policy', 'presets', '--json');
  expect(
    (JSON.parse(presets.stdout) as { usage: string }[]).map(({ usage }) => /^\w+/.exec(usage)?.[0]),
  ).toEqual([...PRESETS.keys()]);
  const fields = await sluice('policy', 'fields');
  for (const name of FIELDS.keys()) expect(fields.stdout).toContain(`${name} `);
});

test('check: what is right is printed in the order of asking, what is wrong shows the place', async () => {
  const policies = 'policies:\n  - { name: low, when: bytes >= 1MB }\n  - { preset: ssh, priority: 3 }\n';
  const good = await sluice('policy', 'check', file('good.yaml', policies));
  expect(good).toMatchObject({ code: 0 });
  expect(good.stdout.split('\n').map((line) => /^\w*/.exec(line)?.[0])).toEqual(['ssh', 'low', '']);
  const bad = await sluice('policy', 'check', file('bad.yaml', policies.replace('1MB', '1MBB')));
  expect(bad.code).toBe(2);
  expect(bad.stderr).toContain('error[POLICY_INVALID]');
  expect(bad.stderr).toMatch(/bytes >= 1MBB\n +\^\^\^\^\n/);
});

test("signatures: which of Suricata's are honoured, and why others are not", async () => {
  const rules = [
    'alert http any any -> any any (msg:"talk"; content:"netdevconf.org"; http_host; bypass; sid:6666; rev:1;)',
    'alert tcp any any -> any any (msg:"stream"; content:"x"; bypass; sid:2;)',
    'alert tcp any any -> any any (msg:"no bypass"; sid:3;)',
  ];
  const { code, stdout } = await sluice(
    'policy',
    'signatures',
    file('some.rules', rules.join('\n')),
    '--json',
  );
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject([
    {
      rules: 3,
      honoured: [{ sid: 6666, msg: 'talk' }],
      refused: [{ line: 2, sid: 2, reason: expect.stringMatching(/stream/) as string }],
    },
  ]);
  // Who only runs them is told how many are missing, and where to see why.
  const policies = file('signed.yaml', SIGNED);
  const checked = await sluice('policy', 'check', policies);
  expect(checked.stderr).toMatch(
    /^warning: \S+some\.rules: 1 of 2 signatures with bypass are not taken; `sluice policy signatures \S+some\.rules --var 'HOME_NET=\[10\.0\.0\.0\/8\]'` says why\n$/,
  );
  const empty = file('empty.pcap', pcapFile([]));
  const read = await sluice('read', empty, '--log-dir', dir, '--what-if', '--policy-file', policies);
  expect(read).toMatchObject({ code: 0, stderr: expect.stringContaining(checked.stderr) as string });
});

test('read --what-if: a table, a document, a page; the logs are the same as without', async () => {
  const frames = conversation({
    client: { address: '10.0.0.1', port: 40_000 },
    server: { address: '192.0.2.1', port: 8443 },
    mss: 1400,
    turns: [
      { from: 'client', data: 200 },
      { from: 'server', data: 3_000_000 },
    ],
    close: 'server-fin',
    start: 1_700_000_000,
    gap: 0.001,
  });
  const trace = file('trace.pcap', pcapFile(frames));
  const page = join(dir, 'what-if.html');
  const [plain, tried] = [join(dir, 'plain'), join(dir, 'tried')];
  await sluice('read', trace, '--log-dir', plain);
  const args = ['read', trace, '--log-dir', tried, '--policy', 'tls,bulk=1MB', '--what-if-report', page];
  const told = await sluice(...args);
  expect(told).toMatchObject({ code: 0 });
  expect(told.stdout).toMatch(/^bulk +1 /m);
  expect(existsSync(page)).toBe(true);
  expect(conn(tried)).toBe(conn(plain));
  const { whatIf } = JSON.parse((await sluice(...args, '--json')).stdout) as { whatIf: WhatIfDocument };
  const [all, tls, bulk] = whatIf.scenarios;
  expect([all.name, tls.name, bulk.name]).toEqual(['all', 'tls', 'bulk']);
  expect(all).toMatchObject({ connections: 1, packets: bulk.packets, bytes: bulk.bytes });
  expect(tls.connections).toBe(0);
  expect(all.bytes / whatIf.bytes).toBeGreaterThan(0.6);
  expect(whatIf.sensorMbps).toEqual({ low: 150, high: 500 });
  expect(whatIf.cores.to).toBeCloseTo(whatIf.all.peak / 150);
  expect(all.cores.from + all.coresSaved.from).toBeCloseTo(whatIf.cores.from);
  expect(all.coresSaved.to).toBeCloseTo((whatIf.all.peak - all.left.peak) / 150);

  const wrong = await sluice('read', trace, '--what-if', '--sensor-mbps', '500-150');
  expect(wrong).toMatchObject({ code: 2 });
  expect(wrong.stderr).toContain('150-500');
});
