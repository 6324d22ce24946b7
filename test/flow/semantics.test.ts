import { describe, expect, test } from 'vitest';
import { eth } from '../../src/packet/build.ts';
import { Harness, handshake, segment } from './support/harness.ts';

/** Rules that recorded traces hardly ever decide. */

type Step = [
  from: 'client' | 'server',
  flags: string,
  seq: number,
  ack: number,
  bytes?: number,
  window?: number,
];

/** After a handshake (sequence numbers 1000 and 5000), one segment per 100 ms: the record. */
function after(steps: Step[]) {
  const harness = new Harness();
  handshake(harness, 100);
  steps.forEach(([from, flags, seq, ack, bytes = 0, window], i) => {
    harness.feed(
      segment(from, flags, seq, ack, bytes, window === undefined ? {} : { window }),
      100.1 + i / 10,
    );
  });
  return harness.only();
}

const closed = (n: number): Step[] => Array.from({ length: n }, () => ['server', 'A', 5001, 1001, 0, 0]);

const talk = (lines: [from: 'client' | 'server', text: string][], port: number) => {
  const harness = new Harness();
  const ends = { client: { address: '10.0.0.1', port: 40_000 }, server: { address: '192.0.2.1', port } };
  const next = { client: 1000, server: 5000 };
  let ts = 100;
  const send = (from: 'client' | 'server', flags: string, text = '') => {
    const to = from === 'client' ? 'server' : 'client';
    harness.feed(
      eth()
        .ipv4({ src: ends[from].address, dst: ends[to].address })
        .tcp({ sport: ends[from].port, dport: ends[to].port, flags, seq: next[from], ack: next[to] })
        .payload(text),
      ts,
    );
    next[from] += text.length + (flags.includes('S') ? 1 : 0);
    ts += 0.01;
  };
  send('client', 'S');
  send('server', 'SA');
  send('client', 'A');
  for (const [from, text] of lines) send(from, 'PA', text);
  return harness;
};

describe('letters again', () => {
  test('F: a FIN sent again adds nothing, one with another end does', () => {
    const fin: Step = ['client', 'FA', 1001, 5001];
    expect(after([fin, fin]).history).toBe('ShAF');
    expect(after([fin, ['client', 'FA', 1011, 5001]]).history).toBe('ShAFF');
    expect(after([fin, ['client', 'FA', 1001, 5001, 10]]).history).toBe('ShAFF');
    // Payload on a FIN is no D, and its ACK no A: the server has neither.
    expect(after([fin, ['server', 'FA', 5001, 1002, 10]]).history).toBe('ShAFf');
  });

  test('F: it is compared with the previous one only', () => {
    const steps = [1001, 1011, 1001, 1011].map((seq): Step => ['client', 'FA', seq, 5001]);
    expect(after(steps).history).toBe('ShAFFFF');
  });

  test('R: again with another sequence number only', () => {
    expect(
      after([
        ['server', 'R', 5001, 0],
        ['server', 'R', 5001, 0],
      ]).history,
    ).toBe('ShAr');
    expect(
      after([
        ['server', 'R', 5001, 0],
        ['server', 'R', 5011, 0],
      ]).history,
    ).toBe('ShArr');
  });

  test('S: a SYN sent again adds nothing', () => {
    const harness = new Harness();
    for (const ts of [100, 101, 103]) harness.feed(segment('client', 'S', 1000, 0), ts);
    harness.feed(segment('server', 'SA', 5000, 1001), 103.1);
    harness.feed(segment('server', 'SA', 5000, 1001), 103.2);
    expect(harness.only()).toMatchObject({ history: 'Sh', origPkts: 3, respPkts: 2 });
  });

  test('I and Q: flags that exclude one another', () => {
    expect(
      after([
        ['client', 'FR', 1001, 0],
        ['client', 'FR', 1001, 0],
      ]).history,
    ).toBe('ShAI');
    expect(after([['client', 'SF', 1000, 0]]).history).toBe('ShAQ');
  });
});

describe('W', () => {
  test('a closed window: the 1st and the 10th time', () => {
    expect(after(closed(1)).history).toBe('ShAaw');
    expect(after(closed(9)).history).toBe('ShAaw');
    expect(after(closed(10)).history).toBe('ShAaww');
  });

  test('not on a RST', () => {
    expect(after([['server', 'R', 5001, 0, 0, 0]]).history).toBe('ShAr');
  });

  test('not once the peer has closed', () => {
    expect(
      after([
        ['client', 'FA', 1001, 5001],
        ['server', 'A', 5001, 1002, 0, 0],
      ]).history,
    ).toBe('ShAFa');
  });

  test('not after a RST of its own', () => {
    expect(
      after([
        ['server', 'RA', 5001, 1001],
        ['server', 'A', 5001, 1001, 0, 0],
      ]).history,
    ).toBe('ShAra');
  });
});

describe('half-closed connections, looked at every 6 s', () => {
  test('a close of a side whose peer never spoke ends it 5 s later', () => {
    const harness = new Harness();
    harness.feed(segment('client', 'S', 1000, 0), 100);
    harness.feed(segment('client', 'FA', 1001, 1), 101);
    harness.engine.advance(105.9);
    expect(harness.records).toHaveLength(0);
    harness.engine.advance(106.2);
    expect(harness.records).toMatchObject([{ connState: 'SH', history: 'SF' }]);
  });

  test('data of the other side goes on for as long as it comes', () => {
    const harness = new Harness();
    handshake(harness, 100);
    harness.feed(segment('client', 'FA', 1001, 5001), 101);
    for (let i = 0; i < 20; i++)
      harness.feed(segment('server', 'PA', 5001 + 100 * i, 1002, 100), 102 + 10 * i);
    harness.feed(segment('server', 'FA', 7001, 1002), 302);
    expect(harness.only()).toMatchObject({ connState: 'SF', respBytes: 2000, duration: 202 });
  });

  test('both closed and a third look: 5 s after the last packet that counts', () => {
    const harness = new Harness();
    handshake(harness, 100);
    harness.feed(segment('client', 'FA', 1001, 5001), 104);
    harness.feed(segment('server', 'FA', 5001, 1002), 106);
    harness.engine.advance(110.9);
    expect(harness.engine.active).toBe(1);
    harness.engine.advance(111.2);
    expect(harness.records).toMatchObject([{ connState: 'SF', duration: 6 }]);
  });
});

describe('an unanswered attempt', () => {
  test('the 5 s begin with the SYN, not with its repetition, and an answer stops them', () => {
    const harness = new Harness();
    harness.feed(segment('client', 'S', 1000, 0), 100);
    harness.feed(segment('client', 'S', 1000, 0), 104);
    harness.engine.advance(105.2);
    expect(harness.records).toMatchObject([{ connState: 'S0', origPkts: 2 }]);
    const answered = new Harness();
    answered.feed(segment('client', 'S', 1000, 0), 100);
    answered.feed(segment('server', 'SA', 5000, 1001), 104.9);
    answered.engine.advance(120);
    expect(answered.engine.active).toBe(1);
  });

  test('an answer after that is another connection, begun by the server', () => {
    const harness = new Harness({ likelyServerPorts: { tcp: [], udp: [] } });
    harness.feed(segment('client', 'S', 1000, 0), 100);
    harness.feed(segment('server', 'SA', 5000, 1001), 105.5);
    expect(harness.finish()).toMatchObject([
      { connState: 'S0', history: 'S' },
      { origHost: '192.0.2.1', history: 'H' },
    ]);
  });
});

/** SSH message 21 with ten bytes of padding. */
const NEWKEYS = `\0\0\0\x0c\x0a\x15${'\0'.repeat(10)}`;
/** A question for the address of "a". */
const QUESTION = Uint8Array.of(0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 97, 0, 0, 1, 0, 1);

describe('silence', () => {
  const ssh: [from: 'client' | 'server', text: string][] = [
    ['server', 'SSH-2.0-OpenSSH_9.6\r\n'],
    ['client', 'SSH-2.0-OpenSSH_9.7\r\n'],
    ['server', NEWKEYS],
    ['client', NEWKEYS],
  ];
  const ftp: [from: 'client' | 'server', text: string][] = [
    ['server', '220 ready\r\n'],
    ['client', 'USER anonymous\r\n'],
    ['server', '331 password\r\n'],
    ['client', 'PASS x\r\n'],
    ['server', '230 welcome\r\n'],
  ];
  test.each([
    ['SSH', ssh, 'ssh'],
    ['FTP', ftp, 'ftp'],
  ] as const)('confirmed %s is kept for an hour on any port', (_name, lines, service) => {
    const harness = talk([...lines], 9022);
    harness.engine.advance(3690);
    expect(harness.engine.active).toBe(1);
    harness.engine.advance(3710);
    expect(harness.records).toMatchObject([{ service, respPort: 9022 }]);
  });

  test.each([21, 22, 23, 513])('port %i is kept for an hour once established, not before', (port) => {
    const established = talk([], port);
    established.engine.advance(3690);
    expect(established.engine.active).toBe(1);
    established.engine.advance(3710);
    expect(established.engine.active).toBe(0);
    const midstream = new Harness();
    midstream.feed(
      eth().ipv4().tcp({ sport: 40_000, dport: port, flags: 'PA', seq: 9, ack: 9 }).payload(5),
      100,
    );
    midstream.engine.advance(410);
    expect(midstream.engine.active).toBe(0);
  });

  test('60 s before the handshake is over, 5 min after the server was heard in its middle', () => {
    // The 5 s of an attempt come first, unless they are more.
    const silent = new Harness({ timeouts: { attempt: 1000 } });
    silent.feed(segment('client', 'S', 1000, 0), 100);
    silent.engine.advance(159.5);
    expect(silent.engine.active).toBe(1);
    silent.engine.advance(160.5);
    expect(silent.records).toMatchObject([{ connState: 'S0', history: 'S' }]);
    const partial = new Harness({ timeouts: { attempt: 1000 } });
    partial.feed(segment('client', 'S', 1000, 0), 100);
    partial.feed(segment('server', 'PA', 5000, 1001, 5), 101);
    partial.engine.advance(400.5);
    expect(partial.engine.active).toBe(1);
    partial.engine.advance(401.5);
    expect(partial.records).toMatchObject([{ connState: 'OTH', history: 'Sd' }]);
  });

  test('an ACK alone of a server does not answer the SYN: the attempt ends after 5 s', () => {
    const harness = new Harness();
    harness.feed(segment('client', 'S', 1000, 0), 100);
    harness.feed(segment('server', 'A', 5000, 1001), 100.5);
    harness.engine.advance(105.5);
    expect(harness.records).toMatchObject([{ connState: 'S0', history: 'Sa', respPkts: 1 }]);
  });

  test('something else is not', () => {
    const harness = talk([['client', 'hello\r\n']], 9022);
    harness.engine.advance(401);
    expect(harness.records).toHaveLength(1);
  });

  test('DNS: looks every 10 s from the first packet on, each ends it after 9 s of silence', () => {
    const harness = new Harness();
    const ask = (ts: number) =>
      harness.feed(
        eth().ipv4({ src: '10.0.0.1', dst: '10.0.0.9' }).udp({ sport: 1000, dport: 53 }).payload(QUESTION),
        ts,
      );
    for (const ts of [100, 101.5]) ask(ts);
    harness.engine.advance(110.2);
    ask(112);
    harness.engine.advance(120.5);
    expect(harness.engine.active).toBe(1);
    harness.engine.advance(130.9);
    expect(harness.records).toMatchObject([{ origPkts: 3 }]);
  });

  test('a port of DNS without DNS is kept like any other', () => {
    const harness = new Harness();
    harness.feed(eth().ipv4().udp({ sport: 1000, dport: 53 }).payload(20), 100);
    harness.engine.advance(159);
    expect(harness.engine.active).toBe(1);
  });
});

describe('gaps', () => {
  test('an acknowledgement beyond what was ever seen counts as bytes', () => {
    const record = after([
      ['client', 'PA', 1001, 5001, 10],
      ['server', 'A', 5001, 3001],
    ]);
    expect(record).toMatchObject({ origBytes: 2000, missedBytes: 1990, history: 'ShADaG' });
  });

  test('what nobody acknowledges is no gap', () => {
    const record = after([
      ['client', 'PA', 1001, 5001, 10],
      ['client', 'PA', 1111, 5001, 10],
    ]);
    expect(record).toMatchObject({ origBytes: 120, missedBytes: 0, history: 'ShAD' });
  });
});

/** A SYN, an ACK alone that acknowledges more, a RST. */
const attempt = (ack: number) => {
  const harness = new Harness();
  harness.feed(segment('client', 'S', 1000, 0), 100);
  harness.feed(segment('server', 'A', 5000, ack), 100.2);
  harness.feed(segment('client', 'R', 1001, 0), 100.5);
  return harness.only();
};

describe('sequence numbers that are not believed', () => {
  const MIB = 1 << 20;

  test('payload of a RST is not counted, nor is a jump of more than 1 MiB to one', () => {
    expect(after([['server', 'R', 5001, 0, 100]]).respBytes).toBe(0);
    expect(after([['server', 'R', 5001 + 2 * MIB, 0]]).respBytes).toBe(0);
    expect(after([['server', 'R', 5001 + 1000, 0]]).respBytes).toBe(1000);
    // Data is believed whatever it jumps.
    expect(after([['server', 'PA', 5001 + 2 * MIB, 1001, 10]]).respBytes).toBe(2 * MIB + 10);
  });

  test('the acknowledgement in a RST says nothing of what was sent', () => {
    expect(after([['server', 'RA', 5001, 90_001]]).origBytes).toBe(0);
    expect(after([['server', 'A', 5001, 90_001]]).origBytes).toBe(89_000);
  });

  test('an acknowledgement of 0 that would jump by more than 1 MiB', () => {
    const harness = new Harness();
    const start = 0xffc0_0000;
    harness.feed(segment('client', 'S', start, 0), 100);
    harness.feed(segment('server', 'SA', 5000, start + 1), 100.1);
    harness.feed(segment('client', 'A', start + 1, 5001), 100.2);
    harness.feed(segment('server', 'A', 5001, 0), 100.3);
    expect(harness.engine.record(0)).toMatchObject({ origBytes: 0 });
    harness.feed(segment('server', 'A', 5001, 1), 100.4);
    expect(harness.only()).toMatchObject({ origBytes: 4 * MIB });
  });

  test('SYN and RST of a side whose peer never answered it: what was acknowledged meanwhile is no payload', () => {
    expect(attempt(2001)).toMatchObject({ connState: 'RSTOS0', origBytes: 0, history: 'SaR' });
    const open = new Harness();
    open.feed(segment('client', 'S', 1000, 0), 100);
    open.feed(segment('server', 'A', 5000, 2001), 100.2);
    expect(open.only()).toMatchObject({ origBytes: 1000 });
  });
});
