/** Sizes and offsets in bytes of the structures in bpf/gate.h. Written by scripts/gen-layouts.ts: do not edit. */

/** struct sl_carrier */
export const SlCarrier = {
  size: 64,
  members: { key: 0, family: 48, dir: 52, ip_len: 56, payload: 60 },
} as const;

/** struct sl_count */
export const SlCount = { size: 16, members: { pkts: 0, bytes: 8 } } as const;

/** struct sl_dir */
export const SlDir = {
  size: 64,
  members: {
    state: 0,
    cpu: 4,
    pkts: 8,
    ip_bytes: 16,
    seq: 24,
    last: 32,
    ack: 40,
    idle_ms: 44,
    rexmits: 48,
    zero_windows: 52,
    sync_seq: 56,
    sync_ack: 60,
  },
} as const;

/** struct sl_exception_key */
export const SlExceptionKey = { size: 20, members: { prefix_len: 0, addr: 4 } } as const;

/** struct sl_flow */
export const SlFlow = {
  size: 192,
  members: { dir: 0, spare: 128, log: 160, log_len: 176, cookie: 180, first: 184 },
} as const;

/** struct sl_fragment */
export const SlFragment = { size: 56, members: { key: 0, dir: 48, pad: 52 } } as const;

/** struct sl_fragment_key */
export const SlFragmentKey = { size: 40, members: { src: 0, dst: 16, id: 32, word: 36 } } as const;

/** struct sl_gate_sample */
export const SlGateSample = {
  size: 32,
  members: { time: 0, frame_len: 8, captured: 12, ifindex: 16, every: 20, rule: 24, verdict: 28 },
} as const;

/** struct sl_key4 */
export const SlKey4 = {
  size: 16,
  members: { low_addr: 0, high_addr: 4, low_port: 8, high_port: 10, word: 12 },
} as const;

/** struct sl_key6 */
export const SlKey6 = {
  size: 48,
  members: { low_addr: 0, high_addr: 16, low_port: 32, high_port: 34, word: 36, vxlan: 40, geneve: 44 },
} as const;

/** struct sl_ledger */
export const SlLedger = {
  size: 384,
  members: { count: 0, jiffy: 336, now: 344, steered: 352, pad: 368 },
} as const;

/** struct sl_meta */
export const SlMeta = {
  size: 48,
  members: { layout: 0, flags: 4, instance: 8, boot_id: 16, pid: 32, netns: 36, ifindex: 40, pad: 44 },
} as const;

/** struct sl_mirror */
export const SlMirror = {
  size: 12,
  members: { kind: 0, skip: 4, link: 6, first_owner: 8, last_owner: 10 },
} as const;

/** struct sl_mirror_key */
export const SlMirrorKey = { size: 20, members: { addr: 0, port: 16, pad: 18 } } as const;

/** struct sl_op */
export const SlOp = {
  size: 128,
  members: {
    code: 0,
    family: 4,
    key: 8,
    owner: 56,
    idle_ms: 60,
    cookie: 64,
    result: 68,
    state: 72,
    seq: 80,
    ack: 88,
    flags: 96,
    tie: 100,
    after: 108,
    synced: 112,
    pad: 116,
  },
} as const;

/** struct sl_ops_range */
export const SlOpsRange = { size: 16, members: { first: 0, count: 4, done: 8, pad: 12 } } as const;

/** struct sl_packet */
export const SlPacket = {
  size: 112,
  members: {
    frame_len: 0,
    vlans: 4,
    l3: 8,
    l4: 10,
    family: 12,
    proto: 13,
    flags: 14,
    tcp_flags: 15,
    sport: 16,
    dport: 18,
    window: 20,
    dir: 22,
    parsed: 23,
    ip_len: 24,
    payload: 28,
    seq: 32,
    ack: 36,
    fragment: 40,
    verdict: 44,
    rule: 48,
    owner: 52,
    noted: 56,
    tie: 60,
    key: 64,
  },
} as const;

/** struct sl_pair */
export const SlPair = { size: 64, members: { count: 0, owner: 48, limit: 52, cookie: 56, pad: 60 } } as const;

/** struct sl_pair_count */
export const SlPairCount = { size: 24, members: { pkts: 0, ip_bytes: 8, last: 16 } } as const;

/** struct sl_pair_key */
export const SlPairKey = { size: 40, members: { low_addr: 0, high_addr: 16, vlans: 32, pad: 36 } } as const;

/** struct sl_prefix_pair */
export const SlPrefixPair = {
  size: 112,
  members: { a: 0, b: 16, a_len: 32, b_len: 36, used: 40, pad: 44, pair: 48 },
} as const;

/** struct sl_sampler */
export const SlSampler = {
  size: 56,
  members: { left: 0, used: 4, tick: 8, taken: 16, lost: 24, over: 32, taken_bytes: 40, missed_bytes: 48 },
} as const;

/** struct sl_sampling */
export const SlSampling = { size: 16, members: { every: 0, size: 4, most: 8, pad: 12 } } as const;

/** struct sl_side */
export const SlSide = { size: 896, members: { note: 0 } } as const;

/** struct sl_side_key */
export const SlSideKey = { size: 52, members: { family: 0, key: 4 } } as const;

/** struct sl_spare */
export const SlSpare = { size: 16, members: { pkts: 0, ip_bytes: 8 } } as const;

/** struct sl_steering */
export const SlSteering = {
  size: 64,
  members: { arrived: 0, first: 16, followed: 24, unknown: 32, pad: 40 },
} as const;

/** struct sl_trace */
export const SlTrace = { size: 128, members: { time: 0, verdict: 8, cpu: 12, packet: 16 } } as const;

/** struct sl_trace_filter */
export const SlTraceFilter = {
  size: 56,
  members: { a: 0, b: 16, port_a: 32, port_b: 34, proto: 36, parts: 40, pad: 44, lost: 48 },
} as const;

/** struct sl_value4 */
export const SlValue4 = { size: 192, members: { flow: 0 } } as const;

/** struct sl_value6 */
export const SlValue6 = { size: 224, members: { pad: 0, flow: 32 } } as const;

/** struct sl_way */
export const SlWay = {
  size: 320,
  members: {
    depth: 0,
    kind: 4,
    tie: 8,
    carriers: 12,
    vxlan: 16,
    geneve: 20,
    mirror: 24,
    pad: 36,
    carrier: 64,
  },
} as const;
