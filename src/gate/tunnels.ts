import {
  MAX_TUNNEL_PORTS,
  TUNNEL_KINDS,
  type TunnelKind,
  type TunnelPorts,
  tunnelPorts,
} from '../base/tunnels.ts';

/** How the gate looks into tunnels: flows are found by the addresses and ports inside. */
export interface GateTunnels {
  kinds: readonly TunnelKind[];
  /** VXLAN and GENEVE ids are part of the key; the flow engine must be told the same. */
  inKey: boolean;
  /** Up to MAX_TUNNEL_PORTS UDP ports of each. */
  ports: TunnelPorts;
  /** Only mirrors that end at this host are looked into, those in the table `mirrors`; everything else passes. */
  mirror?: boolean;
}

/** From the options of that name; undefined when none is to be looked into. */
export function gateTunnels(config: {
  tunnels: readonly TunnelKind[];
  tunnelKey: boolean;
  tunnelPorts: readonly string[];
}): GateTunnels | undefined {
  if (config.tunnels.length === 0) return undefined;
  return { kinds: config.tunnels, inKey: config.tunnelKey, ports: tunnelPorts(config.tunnelPorts) };
}

/** The bit of a kind in cfg_tunnels. */
export function tunnelBit(kind: TunnelKind): number {
  return 1 << TUNNEL_KINDS.indexOf(kind);
}

/** Constants of bpf/maps.h; none where the gate does not look into tunnels: its object has none. */
export function tunnelConstants(tunnels: GateTunnels | undefined): Record<string, number | Uint8Array> {
  if (tunnels === undefined) return {};
  const { ports } = tunnels;
  // A kind without a port is none that is looked into.
  const kinds = tunnels.kinds.filter(
    (kind) => (kind !== 'vxlan' && kind !== 'geneve') || ports[kind].length > 0,
  );
  return {
    cfg_tunnels: kinds.reduce((bits, kind) => bits | tunnelBit(kind), 0),
    cfg_tunnel_in_key: tunnels.inKey ? 1 : 0,
    cfg_vxlan_ports: portBytes(ports.vxlan),
    cfg_geneve_ports: portBytes(ports.geneve),
    cfg_mirror: tunnels.mirror === true ? 1 : 0,
  };
}

/** In network order; what is left over repeats the first. */
function portBytes(ports: readonly number[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(2 * MAX_TUNNEL_PORTS));
  for (let i = 0; i < MAX_TUNNEL_PORTS; i++) view.setUint16(2 * i, ports[i] ?? ports[0] ?? 0);
  return new Uint8Array(view.buffer);
}
