import { describe, expect, it } from 'vitest';
import { SluiceError } from '../../src/base/errors.ts';
import { parseUdpUrl, type UdpAddress } from '../../src/capture/udp-url.ts';

const ETHERNET = 1;
const PPP = 9;
const RAW = 12;

type Row = [text: string, address: string, port: number, encap: UdpAddress['encapsulation'], impl?: string];

const vxlan = { kind: 'vxlan', skip: 0, linkType: ETHERNET } as const;
/** GENEVE names the link type in its header. */
const geneve = { kind: 'geneve', skip: 0, linkType: -1 } as const;

const GOOD: Row[] = [
  ['udp://0.0.0.0:4789', '0.0.0.0', 4789, vxlan],
  ['udp://0.0.0.0', '0.0.0.0', 4789, vxlan],
  ['udp://127.0.0.1:4790/', '127.0.0.1', 4790, vxlan],
  ['udp://127.0.0.1/?encap=geneve', '127.0.0.1', 6081, geneve],
  ['udp://[::]:6081?encap=geneve', '::', 6081, geneve],
  ['udp://[::1]?encap=geneve&dlt=raw', '::1', 6081, { ...geneve, linkType: RAW }],
  ['udp://[fe80::1%eth0]:4789', 'fe80::1%eth0', 4789, vxlan],
  ['udp://10.0.0.1?encap=geneve+vxlan', '10.0.0.1', 6081, { ...vxlan, kind: 'geneve+vxlan' }],
  ['udp://10.0.0.1:9000?encap=raw&dlt=ppp', '10.0.0.1', 9000, { kind: 'raw', skip: 0, linkType: PPP }],
  ['udp://10.0.0.1:9000?encap=raw&skip=16', '10.0.0.1', 9000, { kind: 'raw', skip: 16, linkType: ETHERNET }],
  ['udp://10.0.0.1:9000?encap=skip=8', '10.0.0.1', 9000, { kind: 'raw', skip: 8, linkType: ETHERNET }],
  ['udp://0.0.0.0?skip=4', '0.0.0.0', 4789, { ...vxlan, skip: 4 }],
  ['udp://0.0.0.0:65535?impl=io_uring', '0.0.0.0', 65_535, vxlan, 'io_uring'],
  ['udp::127.0.0.1:4789', '127.0.0.1', 4789, vxlan],
  ['udp::127.0.0.1', '127.0.0.1', 4789, vxlan],
  ['udp::0.0.0.0:4789:vxlan', '0.0.0.0', 4789, vxlan],
  ['udp::0.0.0.0:6081:geneve', '0.0.0.0', 6081, geneve],
  ['udp::[::1]:6081:geneve:dlt=raw', '::1', 6081, { ...geneve, linkType: RAW }],
  ['udp::[::1]:6081:geneve+vxlan:dlt=en10mb', '::1', 6081, { ...vxlan, kind: 'geneve+vxlan' }],
  ['udp::[::]:4789:dlt=raw', '::', 4789, { ...vxlan, linkType: RAW }],
  ['udp::0.0.0.0:7000:raw:dlt=ppp', '0.0.0.0', 7000, { kind: 'raw', skip: 0, linkType: PPP }],
  ['udp::0.0.0.0:7000:skip=12:dlt=raw', '0.0.0.0', 7000, { kind: 'raw', skip: 12, linkType: RAW }],
  ['udp::0.0.0.0:4789:vxlan:impl=io_uring', '0.0.0.0', 4789, vxlan, 'io_uring'],
];

/** What is wrong, and words of the message that name the part. */
const BAD: [text: string, part: string][] = [
  ['', 'udp://'],
  ['udp:', 'udp://'],
  ['udp:/0.0.0.0', 'udp://'],
  ['tcp://0.0.0.0:4789', 'udp://'],
  ['UDP://0.0.0.0', 'udp://'],
  ['udp://', 'address: there is none'],
  ['udp://:4789', 'address: there is none'],
  ['udp://[]:4789', 'address: there is none'],
  ['udp://?encap=vxlan', 'address: there is none'],
  ['udp://[::1:4789', 'address: the bracket'],
  ['udp://[127.0.0.1]:4789', 'address: brackets'],
  ['udp://::1:4789', 'brackets'],
  ['udp:::1:6081', 'brackets'],
  ['udp://example.com:4789', "address: 'example.com'"],
  ['udp://localhost', "address: 'localhost'"],
  ['udp://256.0.0.1:1', "address: '256.0.0.1'"],
  ['udp://1.2.3:1', "address: '1.2.3'"],
  ['udp://[::g]:1', "address: '::g'"],
  ['udp://10.0.0.1%eth0:1', "address: '10.0.0.1%eth0'"],
  ['udp://[fe80::1%]:1', "address: 'fe80::1%'"],
  ['udp://user@10.0.0.1', "address: 'user@10.0.0.1'"],
  ['udp://10.0.0.1:', 'port:'],
  ['udp://10.0.0.1:0', 'port:'],
  ['udp://10.0.0.1:65536', 'port:'],
  ['udp://10.0.0.1:-1', 'port:'],
  ['udp://10.0.0.1:0x10', 'port:'],
  ['udp://10.0.0.1:4789:vxlan', 'port:'],
  ['udp://10.0.0.1:4789/path', "/path' behind the address"],
  ['udp://[::1]4789', 'behind the address'],
  ['udp::[::1]4789', 'behind the address'],
  ['udp://10.0.0.1?encap=gre', 'encap:'],
  ['udp://10.0.0.1?encap=', 'encap: it has no value'],
  ['udp://10.0.0.1?encap', 'encap: it has no value'],
  ['udp://10.0.0.1?encap=vxlan&encap=geneve', 'encap: it is given twice'],
  ['udp://10.0.0.1?dlt=wifi', 'dlt:'],
  ['udp://10.0.0.1?dlt=DLT_RAW', 'dlt:'],
  ['udp://10.0.0.1?skip=-1', 'skip:'],
  ['udp://10.0.0.1?skip=70000', 'skip:'],
  ['udp://10.0.0.1:1?encap=skip=x', 'encap:'],
  ['udp://10.0.0.1:1?encap=skip=8&skip=4', 'skip:'],
  ['udp://10.0.0.1?impl=dpdk', 'impl:'],
  ['udp://10.0.0.1?ipml=recvmmsg', "'ipml' is no option"],
  ['udp://10.0.0.1?encap=vxlan&', "'' is no option"],
  ['udp://10.0.0.1?encap=raw', 'port: there is none'],
  ['udp::10.0.0.1:geneve', 'port:'],
  ['udp::10.0.0.1:6081:gre', 'encap:'],
  ['udp::10.0.0.1:6081:geneve:raw', "'raw' is no option"],
  ['udp::10.0.0.1:6081:geneve:dlt=', 'dlt: it has no value'],
  ['udp::10.0.0.1:6081:', 'encap: it has no value'],
  ['udp::10.0.0.1:6081:geneve:encap=vxlan', 'encap: it is given twice'],
  ['udp::10.0.0.1:6081?encap=geneve', 'port:'],
];

describe('addresses of mirrors', () => {
  it.each(GOOD)('%s', (text, address, port, encapsulation, implementation = 'recvmmsg') => {
    expect(parseUdpUrl(text)).toEqual({ address, port, encapsulation, implementation });
  });

  it.each(BAD)('%s: %s', (text, part) => {
    let thrown: unknown;
    try {
      parseUdpUrl(text);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(SluiceError);
    const { code, message, help } = thrown as SluiceError;
    expect(code).toBe('USAGE');
    expect(message).toContain(part);
    expect(message).toContain(`'${text}'`);
    expect(help).toBeTruthy();
  });

  it('no text makes it throw anything else', () => {
    const alphabet = [
      'udp://',
      'udp::',
      '[',
      ']',
      ':',
      '?',
      '&',
      '=',
      '%',
      '/',
      '1',
      '::',
      '.',
      'encap',
      'skip',
      'é',
      '\n',
    ];
    let seed = 1;
    const random = (n: number) => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
      return (seed >>> 8) % n;
    };
    for (let i = 0; i < 20_000; i++) {
      let text = alphabet[random(2)];
      for (let parts = random(9); parts > 0; parts--) text += alphabet[random(alphabet.length)];
      try {
        parseUdpUrl(text);
      } catch (error) {
        if (!(error instanceof SluiceError) || error.code !== 'USAGE') throw error;
      }
    }
  });
});
