import { SluiceError } from '../base/errors.ts';
import { capabilities, type InterfaceInfo, interfaceInfo, interfaces } from '../kernel/index.ts';
import { ipBytes } from '../packet/address.ts';
import type { GateKind } from './kind.ts';

/** A link-local address comes by itself and is no sign that an interface carries the host's own traffic. */
function isLinkLocal(address: string): boolean {
  return address.toLowerCase().startsWith('fe80:');
}

/**
 * The host's own traffic is never shunted (ADR 0008): an interface with a master, an address or a route other than
 * IPv6 link-local and multicast is refused unless the operator says that it is a tap.
 */
export function checkInterface(name: string, tap: boolean): InterfaceInfo {
  const info = interfaceInfo(name);
  if (tap) return info;
  const why: string[] = [];
  if (info.master !== 0) why.push(`it belongs to ${masterName(info.master)}`);
  const addresses = info.addresses.filter((a) => !isLinkLocal(a.address)).map((a) => a.address);
  if (addresses.length > 0) why.push(`it has the address ${addresses.join(', ')}`);
  if (info.routes.length > 0)
    why.push(`${info.routes.length} route${info.routes.length === 1 ? ' leads' : 's lead'} through it`);
  if (why.length === 0) return info;
  throw new SluiceError('INTERFACE_IN_USE', `${name} carries the host's own traffic: ${why.join('; ')}`, {
    help: `Sluice would drop it. If ${name} is a tap all the same, say so with --tap`,
  });
}

/** @throws SluiceError PRIVILEGE that names what is missing for capture, and for this gate */
export function checkPrivilege(kind: GateKind | 'none'): void {
  const held = capabilities();
  const gate = kind !== 'none';
  const missing: string[] = [];
  if (!held.netRaw) missing.push('CAP_NET_RAW');
  if (kind === 'xdp' && !held.netAdmin) missing.push('CAP_NET_ADMIN');
  if (gate && !held.bpf) missing.push('CAP_BPF');
  // The verifier lets only those compare pointers.
  if (kind === 'socket' && !held.perfmon) missing.push('CAP_PERFMON');
  if (missing.length === 0) return;
  const without = gate && held.netRaw ? '--no-gate works without; ' : '';
  throw new SluiceError(
    'PRIVILEGE',
    `the process lacks ${missing.join(', ')}, which ${gate ? 'the gate and the capture need' : 'the capture needs'}`,
    {
      help: `run as root. ${without}\`sluice read FILE\` and a mirror alone, \`sluice run udp://…\`, need no privilege`,
    },
  );
}

function masterName(index: number): string {
  return interfaces().find((i) => i.index === index)?.name ?? `interface ${index}`;
}

/** Every address of this host, as it stands in gate keys: a flow with a local endpoint is never shunted. */
export function localAddresses(): Set<string> {
  const found = new Set<string>();
  for (const { addresses } of interfaces()) {
    for (const { address } of addresses) {
      const bytes = ipBytes(address);
      if (bytes !== undefined) found.add(Buffer.from(bytes).toString('hex'));
    }
  }
  return found;
}
