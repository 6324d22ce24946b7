/** Numbers of the kernel's interface (include/uapi/linux/bpf.h, if_packet.h, if_link.h). */

export const ProgramType = {
  socketFilter: 1,
  schedCls: 3,
  xdp: 6,
  syscall: 31,
} as const;

export const MapType = {
  hash: 1,
  array: 2,
  progArray: 3,
  percpuHash: 5,
  percpuArray: 6,
  lruHash: 9,
  lruPercpuHash: 10,
  lpmTrie: 11,
  devmap: 14,
  cpumap: 16,
  xskmap: 17,
  ringbuf: 27,
} as const;

/** Attach types of bpf_link_create. */
export const AttachType = {
  xdp: 37,
  tcxIngress: 46,
  tcxEgress: 47,
} as const;

/** Flags of map updates. */
export const UpdateFlag = { any: 0, noExist: 1, exist: 2 } as const;

/** Flags of map creation. */
export const MapFlag = { noPrealloc: 1, readOnlyProgram: 1 << 7, mmapable: 1 << 10 } as const;

/** Flags of program loading. */
export const ProgramFlag = { sleepable: 1 << 4, xdpHasFrags: 1 << 5 } as const;

/** XDP_FLAGS_* of attachments. */
export const XdpFlag = { generic: 1 << 1, native: 1 << 2, offload: 1 << 3 } as const;

/** What an XDP program returns. */
export const XdpAction = { aborted: 0, drop: 1, pass: 2, tx: 3, redirect: 4 } as const;

/** Link types, as bpf_link_info tells them. */
export const LinkType = { xdp: 6, tcx: 11 } as const;

/**
 * TPACKET_V3 (Documentation/networking/packet_mmap.rst): a ring of blocks, each with a header and a chain of frames.
 * Offsets in bytes, from the start of the block and from the start of the frame.
 */
export const TPacket3 = {
  /** tpacket_block_desc: status word; the user writes 0 (kernel's) when it has read the block. */
  blockStatus: 8,
  blockPackets: 12,
  blockFirst: 16,
  /** Bytes of the block in use. */
  blockLength: 20,
  /** Sequence number of the block, 64 bits. */
  blockSequence: 24,
  blockFirstSec: 32,
  blockFirstNsec: 36,
  blockLastSec: 40,
  blockLastNsec: 44,

  /** tpacket3_hdr: to the next frame; 0 in the last one of a block. */
  next: 0,
  sec: 4,
  nsec: 8,
  capturedLength: 12,
  wireLength: 16,
  status: 20,
  /** 16 bits, from the frame's start to the link-layer header. */
  macOffset: 24,
  netOffset: 26,
  rxHash: 28,
  vlanTci: 32,
  /** 16 bits. */
  vlanProtocol: 36,
  /** sockaddr_ll that follows the header: packet type, 8 bits. */
  packetType: 58,

  /** Bits of the block's status. */
  statusKernel: 0,
  statusUser: 1 << 0,
  statusCopy: 1 << 1,
  statusLosing: 1 << 2,
  /** The frame's checksum is not filled in yet (sent from this host). */
  statusChecksumNotReady: 1 << 3,
  statusVlanValid: 1 << 4,
  /** The block was closed by its timer. */
  statusBlockTimeout: 1 << 5,
  statusVlanProtocolValid: 1 << 6,
  statusChecksumValid: 1 << 7,
  statusGsoTcp: 1 << 8,

  /** Values of packetType (PACKET_*). */
  packetHost: 0,
  packetBroadcast: 1,
  packetMulticast: 2,
  packetOtherHost: 3,
  packetOutgoing: 4,
} as const;

/** PACKET_FANOUT_* modes. */
export const Fanout = {
  hash: 0,
  loadBalance: 1,
  cpu: 2,
  rollover: 3,
  random: 4,
  queue: 5,
  cbpf: 6,
  ebpf: 7,
} as const;

/** PACKET_FANOUT_FLAG_*, to be added to a mode. */
export const FanoutFlag = {
  /** A packet for which a ring has no room goes to the next one that has. */
  rollover: 0x1000,
} as const;
