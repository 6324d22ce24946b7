import { addon } from './addon.ts';
import { attributes, messages, request, u32 } from './netlink.ts';

const SOCK_DIAG = 4;
const BY_FAMILY = 20;
const AF_PACKET = 17;
const SHOW = { info: 1, fanout: 8 } as const;
const ANSWER = { info: 0, fanout: 4 } as const;

/** A packet socket of the calling thread's network namespace (linux/packet_diag.h). */
export interface PacketSocket {
  inode: number;
  /** 0: all interfaces. */
  ifindex: number;
  /** Its fanout group; `mode` is PACKET_FANOUT_*, without flags. */
  fanout: { id: number; mode: number } | undefined;
}

/** Undefined where the kernel does not tell (CONFIG_PACKET_DIAG). */
export function packetSockets(): PacketSocket[] | undefined {
  const asked = new Uint8Array(20);
  asked[0] = AF_PACKET;
  new DataView(asked.buffer).setUint32(8, SHOW.info | SHOW.fanout, true);
  let answers: Uint8Array;
  try {
    answers = addon().netlinkOf(request(BY_FAMILY, 'dump', asked), SOCK_DIAG);
  } catch {
    return undefined;
  }
  return messages(answers).flatMap(({ type, body }) => {
    if (type !== BY_FAMILY || body.byteLength < 16) return [];
    const told = attributes(body, 16);
    const word = told.get(ANSWER.fanout);
    return [
      {
        inode: body.getUint32(4, true),
        ifindex: u32(told.get(ANSWER.info)),
        fanout: word === undefined ? undefined : { id: u32(word) & 0xffff, mode: (u32(word) >>> 16) & 0xff },
      },
    ];
  });
}
