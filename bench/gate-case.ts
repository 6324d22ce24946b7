import { SluiceError } from '../src/base/errors.ts';
import type { BpfObject, BpfProgram } from '../src/kernel/index.ts';
import { eth } from '../src/packet/build.ts';
import { cpuSeconds } from './measure.ts';
import { type Endpoint, flowKey } from './tables.ts';

/** One way of one packet. */
export interface Case {
  name: string;
  program: BpfProgram;
  data: Uint8Array;
  action: number;
  /** What it is a multiple of: another case. */
  floor: string | undefined;
  /** What a front end goes on to. */
  next?: BpfProgram;
  /** Before each run, for a packet that goes on where the entry of its connection stands. */
  prepare?: (data: Uint8Array) => void;
}

export const A: Endpoint = { addr: '10.0.0.1', port: 12_345 };
export const B: Endpoint = { addr: '192.168.0.1', port: 443 };
const A6: Endpoint = { addr: '2001:db8::1', port: 12_345 };
const B6: Endpoint = { addr: '2001:db8::2', port: 443 };

export const ack = (sport: number, dport: number) =>
  ({ sport, dport, seq: 1000, ack: 5000, flags: 'A', window: 100 }) as const;

/** The packets: one of a connection in the table, or one of none. */
export function packets(hit: boolean) {
  const ip = { src: A.addr, dst: B.addr };
  const ip6 = { src: A6.addr, dst: B6.addr };
  const tcp = ack(A.port, hit ? B.port : 444);
  const udp = { sport: A.port, dport: hit ? 53 : 54 };
  return {
    ack: eth().ipv4(ip).tcp(tcp).bytes(),
    data: eth().ipv4(ip).tcp(tcp).payload(1400).bytes(),
    tagged: eth().vlan(100).ipv4(ip).tcp(tcp).bytes(),
    udp: eth().ipv4(ip).udp(udp).payload(1200).bytes(),
    ack6: eth().ipv6(ip6).tcp(tcp).bytes(),
    tagged6: eth().vlan(100).ipv6(ip6).tcp(tcp).bytes(),
    mpls: eth().mpls(1000).ipv4(ip).tcp(tcp).bytes(),
    pppoe: eth().pppoe().ipv4(ip).tcp(tcp).bytes(),
    fragment: eth()
      .ipv4({ ...ip, id: 7, fragment: { offset: 0, more: true } })
      .udp({ ...udp, length: 2000 })
      .payload(1200)
      .bytes(),
  };
}

/** What the connections of these packets are called in the tables. */
export const TCP_KEY = flowKey(6, A, B);
export const KEYS = [TCP_KEY, flowKey(17, A, { ...B, port: 53 }), flowKey(6, A6, B6)];

/** Nanoseconds per packet of one case: CPU time, as other tasks may run in between. */
export function run(one: Case, bare: BpfObject, repeat: number): number {
  const { name, program, data, action, next, prepare } = one;
  if (next !== undefined)
    bare.map('next').set(new Uint8Array(4), new Uint8Array(Uint32Array.of(next.fd).buffer));
  prepare?.(data);
  const begin = cpuSeconds();
  const { retval } = program.testRun({ data, repeat });
  const ns = ((cpuSeconds() - begin) * 1e9) / repeat;
  if (retval !== action) throw new SluiceError('INTERNAL', `${name}: the program answered ${retval}`);
  return ns;
}
