import { describe, expect, test } from 'vitest';
import { SluiceError } from '../../src/base/errors.ts';
import { compileCondition } from '../../src/policy/condition.ts';
import type { FlowFacts } from '../../src/policy/fields.ts';
import { PRESETS, parsePolicies } from '../../src/policy/index.ts';
import { Truth } from '../../src/policy/watch.ts';
import { facts } from './facts.ts';

const one = (text: string) => parsePolicies([text])[0];

describe('presets', () => {
  test.each([
    ['tls,bulk=1MB', ['tls', 'bulk']],
    [' bulk = 2MB , TLS ', ['bulk', 'tls']],
    ['none', []],
    [
      'tls=-socks-rdp,ssh,quic,vpn,depth=1MB/both,elephant=1Gb/s,streaming,unknown,opaque,backup',
      ['tls', 'ssh', 'quic', 'vpn', 'depth', 'elephant', 'streaming', 'unknown', 'opaque', 'backup'],
    ],
  ])('%s', (text, names) => {
    expect(parsePolicies([text]).map(({ name }) => name)).toEqual(names);
  });

  const established = { tlsEstablished: true, services: ['ssl'] };
  test.each<[string, Partial<FlowFacts>, Partial<FlowFacts>]>([
    ['tls', established, { services: ['ssl'] }],
    [
      'tls',
      { tlsEstablished: true, services: ['smtp', 'ssl'] },
      { ...established, services: ['quic', 'ssl'] },
    ],
    ['tls=-socks-rdp', established, { ...established, services: ['socks', 'ssl'] }],
    ['tls=100kB', { ...established, respBytes: 1e5 }, { ...established, respBytes: 5e4 }],
    [
      'tls=100kB-socks',
      { ...established, respBytes: 1e5 },
      { ...established, services: ['socks', 'ssl'], respBytes: 1e5 },
    ],
    ['tls=-ldap', established, { ...established, services: ['ldap_tcp', 'ssl'] }],
    ['tls=-dtls', established, { ...established, protocol: 17 }],
    ['quic', { ...established, services: ['quic', 'ssl'] }, established],
    ['ssh', { sshEncrypted: true }, { services: ['ssh'] }],
    ['vpn', { services: ['wireguard'] }, established],
    ['vpn', { protocol: 50 }, {}],
    ['vpn', { services: ['ike', 'esp'] }, { services: ['ike'] }],
    ['bulk', { origPackets: 10, respBytes: 1_000_000 }, { origPackets: 9, respPackets: 0, respBytes: 2e6 }],
    [
      'bulk=1MiB',
      { origPackets: 10, origBytes: 2 ** 20 },
      { origPackets: 10, origBytes: 2 ** 20 - 1, respBytes: 2 ** 20 - 1 },
    ],
    ['depth=1MB', { origBytes: 1e6 }, { origBytes: 1e6 - 1 }],
    ['depth=1MB/both', { origBytes: 1e6, respBytes: 1e6 }, { origBytes: 1e7 }],
    ['elephant=80Mb/s', { duration: 2, respBytes: 20_000_000 }, { duration: 20, respBytes: 20_000_000 }],
    [
      'streaming',
      { ...established, serverName: 'r1.sn-x.googlevideo.com' },
      { ...established, serverName: 'example.com' },
    ],
    [
      'streaming=films.example',
      { ...established, dnsName: 'a.films.example' },
      { ...established, serverName: 'r1.googlevideo.com' },
    ],
    // What is not known yet would be missing in the record.
    [
      'streaming=films.example',
      { origPackets: 20, dnsName: 'films.example' },
      { serverName: 'films.example', dnsName: 'films.example' },
    ],
    [
      'streaming=films.example',
      { services: ['http'], httpHost: 'films.example' },
      { httpHost: 'films.example' },
    ],
    [
      'unknown=20/100kB',
      { origPackets: 20, respBytes: 1e5 },
      { origPackets: 20, respBytes: 1e5, services: ['http'] },
    ],
    ['opaque', { opaque: true, respBytes: 1e5 }, { opaque: false, respBytes: 1e6 }],
    ['backup', { respPort: 873, respBytes: 1e7 }, { respPort: 443, respBytes: 1e7 }],
  ])('%s takes what it is for', (text, taken, left) => {
    const condition = compileCondition(one(text).when);
    expect(condition.look(facts(taken))).toBe(Truth.holds);
    expect(condition.look(facts(left))).not.toBe(Truth.holds);
  });

  test.each([
    ['tsl', /there is no policy 'tsl'/, /did you mean 'tls'\?/],
    ['tls-socks-tds', /no policy 'tls-socks-tds'/, /did you mean 'tls=-socks-tds'\?/],
    ['bluk=1MB', /no policy 'bluk'/, /did you mean 'bulk'/],
    ['zzzzzzzzz', /no policy/, /^known: tls, .*none; others/],
    ['', /no name/, /known/],
    ['tls,', /no name/, /known/],
    ['bulk=', /needs a size/, /bulk=1MB/],
    ['bulk=fast', /needs a size, not 'fast'/, /1MiB/],
    ['bulk=0', /above 0/, /bulk=1MB/],
    ['bulk=-5', /needs a size/, /bulk=1MB/],
    ['tls=', /does not know ''/, /tls=-socks/],
    ['tls=fast', /needs a size, not 'fast'/, /tls=1MB/],
    ['tls=0-socks', /above 0/, /tls=1MB/],
    ['tls=-telnet', /does not know/, /socks/],
    ['ssh=1', /takes no argument/, /just ssh/],
    ['depth', /needs a size/, /depth=1MB/],
    ['depth=1MB/one', /needs a size/, /both/],
    ['elephant=fast', /needs a rate/, /100Mb\/s/],
    ['unknown=5', /does not know/, /20\/100kB/],
    ['streaming=a..b', /no domain/, /example/],
    ['none,tls', /stands alone/, /leave/],
    ['tls,tls', /given twice/, /once/],
    ['bulk=1MB,bulk=2MB', /given twice/, /once/],
  ])('%j is a usage error with a next step', (text, message, help) => {
    let error: unknown;
    try {
      parsePolicies([text]);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(SluiceError);
    const coded = error as SluiceError;
    expect(coded.code).toBe('USAGE');
    expect(coded.exit).toBe(2);
    expect(coded.message).toMatch(message);
    expect(coded.help).toMatch(help);
  });

  test('each says what it is', () => {
    for (const [name, { help }] of PRESETS) expect(help).toMatch(new RegExp(`^${name}\\b.*: \\w`));
  });
});
