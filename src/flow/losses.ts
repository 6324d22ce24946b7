/** Places of what an engine has missed, or got too late, in `FlowEngine.losses`. Of TCP: of connections that are not shunted. */
export const Loss = {
  /** Acknowledgements of something new between two established sides (Zeek's ack_events). */
  acks: 0,
  /** Those of them that acknowledge what was not seen (Zeek's gap_events), and the bytes that were not seen. */
  gaps: 1,
  gapBytes: 2,
  /** Segments that came behind data that follows theirs: out of order, or sent again after a loss before the capture. */
  late: 3,
  /** The furthest that one of them lay behind the highest sequence number, bytes. */
  lateDepth: 4,
  /** Packets with an earlier time than one before, and the furthest back, seconds. */
  outOfOrder: 5,
  outOfOrderDepth: 6,
  /** Packets whose checksum does not hold. */
  badChecksums: 7,
} as const;
export const LOSSES = 8;
