/** What is known of drivers and models of network cards, and stands in no file of the machine. */

/** Bytes of one page less the room before and behind a frame (256 and 320), Ethernet header and two tags. */
const ONE_PAGE = 4096 - 256 - 320 - 22;
/** Intel's drivers give a frame half of two pages at most, 3,072 bytes. */
const HALF_OF_TWO = 3072 - 22;

/** Largest MTU with native XDP where frames may not be in several buffers; by driver. */
const PLAIN_XDP_MTU: Readonly<Record<string, number>> = {
  ixgbe: HALF_OF_TWO,
  ixgbevf: HALF_OF_TWO,
  i40e: HALF_OF_TWO,
  iavf: HALF_OF_TWO,
  ice: HALF_OF_TWO,
  igb: HALF_OF_TWO,
};

export const plainXdpMtu = (driver: string): number => PLAIN_XDP_MTU[driver] ?? ONE_PAGE;

/** Drivers that learn from what is sent where packets are to come in (ATR): with a tap nothing is sent, and flows move. */
export const ATR_UNLESS_NTUPLE: ReadonlySet<string> = new Set(['ixgbe']);
export const ATR_FLAG = 'flow-director-atr';

/** Virtual devices, to which advice on interrupts of real cards does not apply. */
export const VIRTUAL_DRIVERS: ReadonlySet<string> = new Set([
  'veth',
  'virtio_net',
  'tun',
  'dummy',
  'xen_netfront',
  'hv_netvsc',
  'vmxnet3',
]);

export interface ModelLimit {
  name: string;
  /** Packets per second of the whole card, its ports together, with the length up to which that is so. */
  packets?: number;
  below?: number;
  /** Mbit/s of the whole card. */
  mbps?: number;
  source: string;
}

const I40E: Omit<ModelLimit, 'name'> = {
  packets: 37e6,
  below: 160,
  mbps: 40_000,
  source: "Intel's specification update of X710, XXV710 and XL710, section on the throughput limit",
};

/** By PCI vendor and device. */
const MODELS: Readonly<Record<string, ModelLimit>> = {
  '8086:1572': { name: 'Intel X710', ...I40E },
  '8086:1580': { name: 'Intel XL710', ...I40E },
  '8086:1581': { name: 'Intel XL710', ...I40E },
  '8086:1583': { name: 'Intel XL710-QDA2', ...I40E },
  '8086:1584': { name: 'Intel XL710-QDA1', ...I40E },
  '8086:158a': { name: 'Intel XXV710', ...I40E },
  '8086:158b': { name: 'Intel XXV710', ...I40E },
  '8086:1592': { name: 'Intel E810-C', mbps: 100_000, source: "Intel's data sheet of E810" },
};

export function modelLimit(vendor: string, device: string): ModelLimit | undefined {
  return MODELS[`${vendor}:${device}`];
}

/** From this part of a limit on it is said. */
export const LIMIT_SHARE = 0.7;

/** Counters of ENA: packets that were queued or dropped because the instance had used up what it may. */
export const ALLOWANCE_COUNTERS = [
  'bw_in_allowance_exceeded',
  'pps_allowance_exceeded',
  'conntrack_allowance_exceeded',
] as const;

/** Counters of frames that were longer than the MTU; by vendor. */
export const TOO_LONG_COUNTERS = [
  'port.rx_oversize',
  'rx_oversize',
  'rx_oversize_pkts_phy',
  'rx_out_of_range_len_phy',
  'rx_length_errors',
  'port.rx_length_errors',
  'rx_in_range_len_errors_phy',
] as const;

/** GT/s of a lane, and what of them is data: 8 of 10 bits up to generation 2, 128 of 130 later. */
export function pcieMbps(speed: number, width: number): number {
  return speed * 1000 * width * (speed <= 5 ? 0.8 : 128 / 130);
}

/** Headers of packets on the bus, descriptors and write-backs take the rest. */
export const PCIE_SHARE = 0.8;
