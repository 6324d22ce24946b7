import type { ConnRecord, FlowEngineOptions, TunnelRecord } from '../../../src/flow/index.ts';
import { eth, ipv4, ipv6 } from '../../../src/packet/build.ts';
import { Harness } from './harness.ts';

export const A = '198.51.100.1';
export const B = '198.51.100.2';
/** LLC and SNAP in front of IPv4. */
export const SNAP = [0xaa, 0xaa, 3, 0, 0, 0, 8, 0];

/** An engine with what it tells of tunnels. */
export class TunnelHarness extends Harness {
  readonly log: TunnelRecord[] = [];

  constructor(options: FlowEngineOptions = {}) {
    super(options, { tunnel: (record) => this.log.push(record) });
  }

  /** The records of inner connections and of those around them. */
  split(): { inner: ConnRecord[]; outer: ConnRecord[] } {
    const records = this.finish();
    return {
      inner: records.filter(({ tunnelParents }) => tunnelParents !== undefined),
      outer: records.filter(({ tunnelParents }) => tunnelParents === undefined),
    };
  }
}

export const outer = (src: string, dst: string, dport: number, sport = 50_000) =>
  eth().ipv4({ src, dst }).udp({ sport, dport });
/** Client to server, or back, inside. */
export const asked = () =>
  ipv4({ src: '10.0.0.1', dst: '10.0.0.2' }).udp({ sport: 1000, dport: 2000 }).payload(30);
export const answered = () =>
  ipv4({ src: '10.0.0.2', dst: '10.0.0.1' }).udp({ sport: 2000, dport: 1000 }).payload(40);
export const inEthernet = (bytes: Uint8Array) => eth({ type: 0x0800 }).payload(bytes);
export const vxlan = (src: string, dst: string, inner: Uint8Array, vni = 5) =>
  outer(src, dst, 4789).vxlan({ vni }).payload(inEthernet(inner).bytes());
export const gre = (src: string, dst: string, inner: Uint8Array) =>
  eth().ipv4({ src, dst }).gre({ protocol: 0x0800 }).payload(inner);
/** A T-PDU. */
export const gtpBytes = (inner: Uint8Array) => Uint8Array.of(0x30, 255, 0, 0, 0, 0, 0, 1, ...inner);
export const teredoInner = (back = false) => {
  const [src, dst] = back ? ['2001:db8::5', '2001:0:1::1'] : ['2001:0:1::1', '2001:db8::5'];
  return ipv6({ src, dst })
    .udp({ sport: back ? 2000 : 1000, dport: back ? 1000 : 2000 })
    .payload(8);
};
