/** Kinds of tunnels that the gate can look into, in the order of their bits (SL_TUNNEL_* of bpf/gate.h). */
export const TUNNEL_KINDS = ['vxlan', 'geneve', 'gre', 'ipip'] as const;
export type TunnelKind = (typeof TUNNEL_KINDS)[number];

/** UDP ports by the kind of tunnel. */
export interface TunnelPorts {
  vxlan: readonly number[];
  geneve: readonly number[];
}

/** As many of each kind as the gate knows (SL_TUNNEL_PORTS of bpf/gate.h). */
export const MAX_TUNNEL_PORTS = 4;

/** The ports in values of `tunnel-ports`, such as vxlan=4789; a kind of which none is given has none. */
export function tunnelPorts(values: readonly string[]): TunnelPorts {
  const of = (kind: string): number[] =>
    values
      .filter((value) => value.startsWith(`${kind}=`))
      .map((value) => Number(value.slice(kind.length + 1)));
  return { vxlan: of('vxlan'), geneve: of('geneve') };
}
