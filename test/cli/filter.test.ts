import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { query } from '../filter/dns-frames.ts';
import { corpusTraces, type Frame, framesOf, tool, toolTest, writePcap } from '../filter/support.ts';
import { sluice, start } from '../support/command.ts';
import { ip, kernelTest, ownNetns, sh, vethPair } from '../support/kernel.ts';

ownNetns();

const dir = mkdtempSync(join(tmpdir(), 'sluice-filter-cli-'));
afterAll(() => rmSync(dir, { recursive: true }));

const queries = join(dir, 'queries.pcap');
const short: Frame = { bytes: new Uint8Array([1, 2, 3]), wire: 3, linkType: 1 };
const cut = query('www.example.com');
const FRAMES: Frame[] = [
  query('example.com'),
  short,
  query('www.example.com', { tags: [0x8100], version: 6 }),
  query('example.net'),
  { ...cut, bytes: cut.bytes.slice(0, 60) },
  { ...cut, wire: 2000 },
];
writePcap(queries, FRAMES);

interface Run {
  packets: number;
  matched: number;
  matches: number[];
  returns: number[];
}

async function run(...args: string[]): Promise<Run> {
  const { code, stdout, stderr } = await sluice('filter', ...args, '--json');
  expect(stderr).toBe('');
  expect(code).toBe(0);
  return JSON.parse(stdout) as Run;
}

async function emitted(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await sluice('filter', ...args);
  expect(stderr).toBe('');
  expect(code).toBe(0);
  return stdout;
}

describe('sluice filter --run', () => {
  it('says which packets match and what the filter returned', async () => {
    const found = await run('--lang', 'suffix', 'example.com', '--run', queries);
    expect(found).toMatchObject({ packets: 6, matched: 3, matches: [0, 2, 5] });
    expect(found.returns).toEqual([262_144, 0, 262_144, 0, 0, 262_144]);
    const plain = await sluice('filter', '--lang', 'suffix', 'example.com', '--run', queries);
    expect(plain.stdout).toBe('3 of 6 packets match\npackets (from 0): 0, 2, 5\n');
  });

  it('the length of a packet is that on the wire', async () => {
    expect((await run('greater', '1000', '--run', queries)).matches).toEqual([5]);
    expect((await run('less', '3', '--run', queries)).matches).toEqual([1]);
  });

  kernelTest('the kernel engine says the same, of short and cut frames too', [], async () => {
    for (const filter of [
      ['--lang', 'suffix', 'example.com'],
      ['greater', '1000'],
      ['less', '3'],
      ['--lang', 'dns', 'valid'],
      [''],
    ]) {
      const classic = await run(...filter, '--run', queries, '--engine', 'classic');
      const kernel = await run(...filter, '--run', queries, '--engine', 'kernel');
      expect(kernel.returns).toEqual(classic.returns);
      expect(kernel.matches).toEqual(classic.matches);
    }
  });

  it('a file of another link type is read as what it is', async () => {
    const raw = join(dir, 'raw.pcap');
    writePcap(
      raw,
      FRAMES.slice(0, 1).map(({ bytes, wire }) => ({
        bytes: bytes.slice(14),
        wire: wire - 14,
        linkType: 101,
      })),
      101,
    );
    expect((await run('udp port 53', '--run', raw)).matches).toEqual([0]);
    expect((await run('--lang', 'dns', 'example.com', '--run', raw, '--linktype', 'raw')).matches).toEqual([
      0,
    ]);
    const other = await sluice('filter', 'udp', '--run', raw, '--linktype', 'EN10MB');
    expect(other.stderr).toContain('frames of link type RAW, the filter is for EN10MB');
  });

  it('an expression for another link type than Ethernet is for that of the file', async () => {
    const wlan = join(dir, 'wlan.pcap');
    const beacon = Uint8Array.from([0x80, 0, ...Array.from<number>({ length: 30 }).fill(255)]);
    writePcap(wlan, [{ bytes: beacon, wire: 32, linkType: 105 }], 105);
    expect((await run('wlan type mgt subtype beacon', '--run', wlan)).matches).toEqual([0]);
    const { code, stderr } = await sluice('filter', '--lang', 'dns', 'a.b', '--run', wlan);
    expect([code, stderr]).toEqual([1, expect.stringContaining('error[FILTER_UNSUPPORTED]')]);
  });

  it('a damaged file ends with what was read', async () => {
    const damaged = join(dir, 'damaged.pcap');
    writePcap(damaged, FRAMES);
    const { size } = await import('node:fs').then(({ statSync }) => statSync(damaged));
    const { truncateSync } = await import('node:fs');
    truncateSync(damaged, size - 5);
    const { code, stdout } = await sluice('filter', 'udp', '--run', damaged, '--json');
    expect(code).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({ packets: 5, error: { code: 'FILE_FORMAT' } });
  });

  it('the capture may come from stdin', async () => {
    const { child, outcome } = start('filter', 'udp port 53', '--run', '-', '--json');
    const { readFileSync } = await import('node:fs');
    child.stdin.end(readFileSync(queries));
    expect(JSON.parse((await outcome).stdout)).toMatchObject({ packets: 6, matched: 4 });
  });

  kernelTest('without privileges the kernel engine says what still works', [], () => {
    const script = fileURLToPath(new URL('../support/sluice.ts', import.meta.url));
    const args = ['filter', 'udp', '--run', queries, '--engine', 'kernel', '--json'];
    const unprivileged = spawnSync(
      'setpriv',
      ['--bounding-set', '-all', '--inh-caps', '-all', '--', process.execPath, script, ...args],
      { encoding: 'utf8' },
    );
    expect(unprivileged.status).toBe(3);
    expect(JSON.parse(unprivileged.stdout)).toMatchObject({
      error: { code: 'PRIVILEGE', help: expect.stringContaining('--engine classic') },
    });
    const stats = spawnSync(
      'setpriv',
      [
        '--bounding-set',
        '-all',
        '--inh-caps',
        '-all',
        '--',
        process.execPath,
        script,
        'filter',
        'udp',
        '--emit',
        'stats',
        '--json',
      ],
      { encoding: 'utf8' },
    );
    expect(stats.status).toBe(0);
    expect(JSON.parse(stats.stdout)).toMatchObject({ jitedBytes: null });
    expect(stats.stderr).toContain('jitedBytes is not known');
  });

  const large = corpusTraces().find(({ name }) => name.endsWith('ssh.basic'));
  kernelTest('the kernel engine runs thousands of frames, large ones too', [], async (context) => {
    if (large === undefined) {
      context.skip('there is no corpus here');
      return;
    }
    const classic = await run('ether[4000] & 1 = 1 or ip[2:2] > 5000', '--run', large.path);
    const kernel = await run(
      'ether[4000] & 1 = 1 or ip[2:2] > 5000',
      '--run',
      large.path,
      '--engine',
      'kernel',
    );
    expect(classic.matched).toBeGreaterThan(0);
    expect(kernel.returns).toEqual(classic.returns);
    expect(framesOf(large.path).some(({ bytes }) => bytes.length > 3520)).toBe(true);
  });
});

/** What comes of a datagram of one byte to a port of the loopback interface: its length, or nothing. */
const reached = (port: number) =>
  sh(
    'python3',
    '-c',
    `
import socket
a = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
a.bind(("127.0.0.1", ${port}))
a.settimeout(0.3)
b = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
b.sendto(b"x", ("127.0.0.1", ${port}))
try:
    print(len(a.recv(9)))
except TimeoutError:
    print("nothing")
`,
  ).trim();

describe('sluice filter --emit', () => {
  toolTest('cbpf and ddd are what tcpdump prints', 'tcpdump', async () => {
    expect(await emitted('tcp port 443', '--emit', 'ddd')).toBe(
      tool('tcpdump', ['-y', 'EN10MB', '-ddd', 'tcp port 443']),
    );
    const ours = await emitted('tcp', 'port', '443');
    expect(ours).toMatch(/^\(000\) ldh {6}\[12\]\n/);
    expect(await emitted('tcp port 443', '--no-optimize', '--snaplen', '100', '--emit', 'ddd')).toBe(
      tool('tcpdump', ['-y', 'EN10MB', '-O', '-s', '100', '-ddd', 'tcp port 443']),
    );
  });

  kernelTest('stats has instructions and bytes of machine code', [], async () => {
    const stats = JSON.parse(await emitted('tcp port 443', '--emit', 'stats', '--json')) as Record<
      string,
      number
    >;
    expect(Object.keys(stats)).toEqual(['cbpfInstructions', 'ebpfInstructions', 'jitedBytes']);
    expect(stats['cbpfInstructions']).toBe(20);
    expect(stats['ebpfInstructions']).toBeGreaterThan(10);
    expect(stats['jitedBytes']).toBeGreaterThan(50);
  });

  it('ebpf is a listing, and instructions with --json', async () => {
    expect(await emitted('udp', '--emit', 'ebpf')).toMatch(/exit\n$/);
    const { instructions } = JSON.parse(await emitted('udp', '--emit', 'ebpf', '--json')) as {
      instructions: object[];
    };
    expect(instructions.at(-1)).toMatchObject({ code: 0x95 });
  });

  it('c compiles', async () => {
    const source = join(dir, 'filter.c');
    writeFileSync(source, await emitted('--lang', 'dns', '**.example.com', '--emit', 'c'));
    sh('gcc', '-Wall', '-Wextra', '-Werror', '-c', '-o', join(dir, 'filter.o'), source);
  });

  it('the program of another tool is taken from stdin, and comes back the same', async () => {
    const { child, outcome } = start('filter', '--lang', 'cbpf', '-', '--emit', 'ddd');
    const text = await emitted('udp port 53', '--emit', 'ddd');
    child.stdin.end(text);
    expect(await outcome).toMatchObject({ code: 0, stdout: text });
  });

  kernelTest('netfilter takes what is made for it', [], async (context) => {
    if (!existsSync('/usr/sbin/iptables')) {
      if (process.env['CI'] !== undefined)
        throw new Error('iptables is not installed (scripts/setup.sh does)');
      context.skip('iptables is not installed');
    }
    const usable = spawnSync(
      '/usr/sbin/iptables-nft',
      ['-A', 'INPUT', '-m', 'bpf', '--bytecode', '1,6 0 0 1', '-j', 'DROP'],
      { encoding: 'utf8' },
    );
    if (usable.status !== 0) context.skip(`this kernel has no bpf match of netfilter: ${usable.stderr}`);
    const bytecode = (await emitted('udp port 53', '--emit', 'iptables')).trim();
    sh('iptables-nft', '-A', 'INPUT', '-m', 'bpf', '--bytecode', bytecode, '-j', 'DROP');
    sh('sh', '-c', await emitted('udp port 53', '--emit', 'nft'));
    const rules = sh('iptables-nft', '-S', 'INPUT')
      .split('\n')
      .filter((line) => line.includes(bytecode));
    expect(rules.length).toBe(2);
    // Packets of the loopback interface, which the rule drops or not.
    ip('addr replace 127.0.0.1/8 dev lo');
    sh('iptables-nft', '-D', 'INPUT', '1');
    expect([reached(53), reached(54)]).toEqual(['nothing', '1']);
    sh('iptables-nft', '-F', 'INPUT');
    expect(reached(53)).toBe('1');
  });

  kernelTest('tc takes what is made for it', [], async (context) => {
    const pair = vethPair();
    try {
      const usable = spawnSync('/usr/sbin/tc', ['qdisc', 'add', 'dev', pair.a, 'clsact'], {
        encoding: 'utf8',
      });
      if (usable.status !== 0) context.skip(`this kernel has no clsact: ${usable.stderr}`);
      const line = await emitted('udp port 53', '--emit', 'tc');
      sh('sh', '-c', line.replace('IFACE', pair.a));
      expect(sh('tc', 'filter', 'show', 'dev', pair.a, 'ingress')).toContain('direct-action');
    } finally {
      pair.remove();
    }
  });
});

describe('errors of sluice filter', () => {
  it('point into the text', async () => {
    const { code, stderr } = await sluice('filter', 'tcp prot 80');
    expect(code).toBe(2);
    expect(stderr.split('\n').slice(0, 3)).toEqual([
      'error[FILTER_INVALID]: libpcap: syntax error (column 5)',
      '  tcp prot 80',
      '      ^^^^',
    ]);
  });

  it.each<[string, string[], number, string]>([
    ['no expression', [], 2, "missing required argument 'EXPR'"],
    ['an unknown language', ['x', '--lang', 'perl'], 2, 'Allowed choices are tcpdump'],
    ['an unknown form', ['x', '--emit', 'asm'], 2, 'Allowed choices are cbpf'],
    ['an unknown engine', ['x', '--run', queries, '--engine', 'fast'], 2, 'Allowed choices are classic'],
    ['an engine and no file', ['tcp', '--engine', 'kernel'], 2, '--engine needs --run'],
    ['a form and a file', ['tcp', '--emit', 'c', '--run', queries], 2, 'does not go together'],
    ['an unknown link type', ['tcp', '--linktype', 'TOKENRING'], 2, 'no link type "TOKENRING"'],
    [
      'a link type that netfilter does not have',
      ['tcp', '--emit', 'iptables', '--linktype', 'EN10MB'],
      2,
      'for link type RAW',
    ],
    ['a snaplen of 0', ['tcp', '--snaplen', '0'], 2, 'from 1 to'],
    ['a missing file', ['tcp', '--run', join(dir, 'none.pcap')], 1, 'error[FILE]'],
    ['too long for netfilter', ['--lang', 'dns', 'a.b', '--emit', 'iptables'], 1, 'at most 64 instructions'],
    [
      'computed returns for tc',
      ['--lang', 'cbpf', '1,22 0 0 0', '--emit', 'tc'],
      1,
      'returns what it has computed',
    ],
    [
      'what classic BPF has and XDP has not',
      ['--lang', 'cbpf', '2,32 0 0 4294963236,22 0 0 0', '--emit', 'ebpf'],
      1,
      'error[FILTER_UNSUPPORTED]',
    ],
  ])('%s', async (_, args, code, message) => {
    const result = await sluice('filter', ...args);
    expect(result).toMatchObject({ code, stdout: '' });
    expect(result.stderr).toContain(message);
  });
});
