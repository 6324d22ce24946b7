/** What the gate looks into; each kind is one bit of cfg_tunnels (bpf/gate.h). */
export const TUNNEL_KINDS = ['vxlan', 'geneve', 'gre', 'ipip'] as const;
export type TunnelKind = (typeof TUNNEL_KINDS)[number];

/** Ports of each kind that a gate knows (SL_TUNNEL_PORTS). */
export const MAX_TUNNEL_PORTS = 4;

/** How the gate looks into tunnels: flows are found by the addresses and ports inside. */
export interface GateTunnels {
  kinds: readonly TunnelKind[];
  /** VXLAN and GENEVE ids are part of the key; the flow engine must be told the same. */
  inKey: boolean;
  /** 1 to MAX_TUNNEL_PORTS UDP ports of each. */
  vxlanPorts: readonly number[];
  genevePorts: readonly number[];
  /** Only mirrors that end at this host are looked into, those in the table `mirrors`; everything else passes. */
  mirror?: boolean;
}

export const DEFAULT_TUNNEL_PORTS = { vxlanPorts: [4789], genevePorts: [6081] } as const;

/** The bit of a kind in cfg_tunnels. */
export function tunnelBit(kind: TunnelKind): number {
  return 1 << TUNNEL_KINDS.indexOf(kind);
}

/** Constants of bpf/maps.h; none where the gate does not look into tunnels: its object has none. */
export function tunnelConstants(tunnels: GateTunnels | undefined): Record<string, number | Uint8Array> {
  if (tunnels === undefined) return {};
  return {
    cfg_tunnels: tunnels.kinds.reduce((bits, kind) => bits | tunnelBit(kind), 0),
    cfg_tunnel_in_key: tunnels.inKey ? 1 : 0,
    cfg_vxlan_ports: portBytes(tunnels.vxlanPorts),
    cfg_geneve_ports: portBytes(tunnels.genevePorts),
    cfg_mirror: tunnels.mirror === true ? 1 : 0,
  };
}

/** In network order; what is left over repeats the first. */
function portBytes(ports: readonly number[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(2 * MAX_TUNNEL_PORTS));
  for (let i = 0; i < MAX_TUNNEL_PORTS; i++) view.setUint16(2 * i, ports[i] ?? ports[0] ?? 0);
  return new Uint8Array(view.buffer);
}
