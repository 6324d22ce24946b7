import { addon } from './addon.ts';
import { attribute, attributes, concat, messages, request, u32 } from './netlink.ts';

const NETLINK_GENERIC = 16;
const CONTROL = { family: 16, getFamily: 3, name: 2, id: 1 } as const;
const NETDEV = { get: 1, ifindex: 1, xdpFeatures: 3 } as const;

/** What a driver says that it can do with XDP (Documentation/netlink/specs/netdev.yaml). */
export interface XdpFeatures {
  /** Native XDP: pass, drop, abort, send back. */
  basic: boolean;
  redirect: boolean;
  /** Frames that others redirect to it. */
  redirectTarget: boolean;
  zeroCopy: boolean;
  offload: boolean;
  /** Frames in several buffers (`xdp.frags`). */
  frags: boolean;
}

function generic(command: number, body: Uint8Array): Uint8Array {
  return concat(new Uint8Array([command, 1, 0, 0]), body);
}

let family: number | undefined;

/** Undefined where the kernel (before Linux 6.3) does not tell. */
export function xdpFeatures(ifindex: number): XdpFeatures | undefined {
  try {
    if (family === undefined) {
      const asked = request(
        CONTROL.family,
        'get',
        generic(CONTROL.getFamily, attribute(CONTROL.name, 'netdev')),
      );
      const [answer] = messages(addon().netlinkOf(asked, NETLINK_GENERIC));
      const id = answer === undefined ? undefined : attributes(answer.body, 4).get(CONTROL.id);
      if (id === undefined || id.byteLength < 2) return undefined;
      family = id.getUint16(0, true);
    }
    const asked = request(family, 'get', generic(NETDEV.get, attribute(NETDEV.ifindex, ifindex)));
    const [answer] = messages(addon().netlinkOf(asked, NETLINK_GENERIC));
    const told = answer === undefined ? undefined : attributes(answer.body, 4).get(NETDEV.xdpFeatures);
    if (told === undefined) return undefined;
    const bits = u32(told);
    const has = (bit: number): boolean => (bits & (1 << bit)) !== 0;
    return {
      basic: has(0),
      redirect: has(1),
      redirectTarget: has(2),
      zeroCopy: has(3),
      offload: has(4),
      frags: has(5),
    };
  } catch {
    // No such family, or no such device in it: it is not known.
    return undefined;
  }
}
