/**
 * What the counters of a driver (`ethtool -S`) and those that all have (`ip -s link`) say of packets that reached the card
 * and no program. Names differ by driver, and some say the same twice: here is which of them make the sum. Sources: the
 * drivers, Documentation/networking/statistics.rst, and for Intel and Mellanox zept's counters.rst.
 */

/** Where in the card a packet was lost. */
export const NIC_LOSSES = ['missed', 'noBuffer', 'errors', 'discarded'] as const;
/**
 * missed: the card's own packet buffer was full, or the bus too slow; noBuffer: no descriptor or page was free; errors: the
 * frame was damaged, or of a length that is not allowed; discarded: the driver or the card let it go.
 */
export type NicLoss = (typeof NIC_LOSSES)[number];

/** A counter by its name, or those of all queues; `without`: counters that are in it, and no losses of the card. */
type Name = string | RegExp | { all: RegExp; without: RegExp };

/** A group of names for the same: the first that is there counts. */
type Names = readonly Name[];

interface DriverBook {
  losses: Partial<Record<NicLoss, readonly Names[]>>;
  /** This has what sockets behind XDP (AF_XDP) had no room for, which they tell themselves. */
  socketsIn?: NicLoss;
  /** Of the counters that all interfaces have, those that say what the driver's own do not. */
  link?: Partial<Record<'rxMissed' | 'rxDropped' | 'rxErrors', NicLoss>>;
  /** Tell of trouble and not of packets, or not for sure. */
  warnings?: readonly Name[];
}

const names = (...all: Name[]): Names[] => all.map((name) => [name]);

const INTEL_40G: DriverBook = {
  losses: {
    missed: [['port.rx_dropped', 'rx_dropped.nic']],
    noBuffer: names('rx_dropped', 'rx_alloc_fail', 'rx_pg_alloc_fail'),
    errors: [
      ['port.rx_crc_errors', 'rx_crc_errors.nic'],
      ['port.illegal_bytes', 'illegal_bytes.nic'],
      ['port.rx_length_errors', 'rx_length_errors.nic', 'rx_len_errors.nic'],
      ['port.rx_oversize', 'rx_oversize.nic'],
      ['port.rx_undersize', 'port.undersize', 'rx_undersize.nic'],
      ['port.rx_fragments', 'port.fragments', 'rx_fragments.nic'],
      ['port.rx_jabber', 'rx_jabber.nic'],
    ],
  },
  warnings: ['port.fdir_flush_cnt', 'port.fdir_atr_match', 'port.mac_local_faults', 'port.mac_remote_faults'],
};

const INTEL_1G: DriverBook = {
  losses: {
    missed: names('rx_missed_errors'),
    noBuffer: names(/^rx_queue_\d+_drops$/),
    errors: names('rx_crc_errors', 'rx_align_errors', 'rx_long_length_errors', 'rx_short_length_errors'),
  },
  // No buffer was free in memory, but the frame may have waited in the card.
  warnings: ['rx_no_buffer_count', /^rx_queue_\d+_alloc_failed$/],
};

const MLX5: DriverBook = {
  losses: {
    missed: names('outbound_pci_buffer_overflow', 'rx_discards_phy'),
    noBuffer: [['rx_out_of_buffer', 'rx_dropped'], ['rx_alloc_fail'], ['rx_buff_alloc_err']],
    errors: [
      ['rx_crc_errors_phy'],
      ['rx_symbol_err_phy', 'rx_symbol_error_phy'],
      ['rx_in_range_len_errors_phy'],
      ['rx_out_of_range_len_phy'],
      ['rx_oversize_pkts_phy'],
      ['rx_undersize_pkts_phy'],
      ['rx_fragments_phy'],
      ['rx_jabbers_phy'],
      ['rx_wqe_err'],
    ],
    discarded: names('rx_steer_missed_packets', 'rx_oversize_pkts_sw_drop', 'rx_oversize_pkts_buffer'),
  },
  warnings: ['rx_corrected_bits_phy'],
};

const BOOKS: Readonly<Record<string, DriverBook>> = {
  e1000e: INTEL_1G,
  igb: INTEL_1G,
  igc: INTEL_1G,
  i40e: INTEL_40G,
  ice: INTEL_40G,
  ixgbe: {
    losses: {
      missed: names('rx_missed_errors'),
      noBuffer: names('rx_no_dma_resources', 'alloc_rx_page_failed', 'alloc_rx_buff_failed'),
      errors: names('rx_crc_errors', 'rx_length_errors', 'rx_long_length_errors', 'rx_short_length_errors'),
      discarded: names('rx_fcoe_dropped'),
    },
    warnings: ['rx_no_buffer_count', 'fdir_overflow', 'rx_csum_offload_errors'],
  },
  mlx5_core: MLX5,
  virtio_net: {
    losses: {
      missed: names(/^rx_?(?:queue_)?\d+_hw_drops$/),
      // What programs drop, on purpose or as a socket has no room, this driver counts as its own drops too.
      discarded: names({
        all: /^rx_?(?:queue_)?\d+_drops$/,
        without: /^rx_?(?:queue_)?\d+_xdp_drops$/,
      }),
    },
  },
  ena: {
    losses: {
      missed: names('rx_overruns'),
      errors: names(/^queue_\d+_rx_(?:bad_desc_num|bad_req_id)$/),
      noBuffer: names(/^queue_\d+_rx_skb_alloc_fail$/),
    },
    link: { rxDropped: 'discarded' },
    warnings: [
      'bw_in_allowance_exceeded',
      'pps_allowance_exceeded',
      'conntrack_allowance_exceeded',
      'linklocal_allowance_exceeded',
      /^queue_\d+_rx_(?:page_alloc_fail|empty_rx_ring|dma_mapping_err)$/,
    ],
  },
  veth: { losses: { discarded: names(/^rx_queue_\d+_drops$/) }, socketsIn: 'discarded' },
};

/** What every driver keeps by the kernel's rules; rx_dropped has frames too that nobody wanted, and those of the backlog. */
const OTHERS: DriverBook = { losses: {}, link: { rxMissed: 'missed', rxErrors: 'errors' } };

/** The counters that the kernel has of each interface. */
export interface LinkCounters {
  rxMissed: number;
  rxDropped: number;
  rxErrors: number;
}

/** One counter as the driver names it; `loss`: which part of the sum it is in, undefined: in none. */
export interface NicCounter {
  name: string;
  value: number;
  loss: NicLoss | undefined;
}

/** The sum over all names that fit; undefined when there is none. */
function valueOf(name: Name, counters: Readonly<Record<string, number>>): number | undefined {
  if (typeof name === 'string') return counters[name];
  if (!(name instanceof RegExp)) {
    const all = valueOf(name.all, counters);
    // The counters are not read in one moment.
    return all === undefined ? undefined : Math.max(0, all - (valueOf(name.without, counters) ?? 0));
  }
  let sum: number | undefined;
  for (const [key, value] of Object.entries(counters)) if (name.test(key)) sum = (sum ?? 0) + value;
  return sum;
}

/** A pattern as a name: `rx_queue_*_drops`. */
const nameOf = (name: Name): string =>
  typeof name === 'string'
    ? name
    : (name instanceof RegExp ? name : name.all).source
        .replaceAll(/\^|\$|\?:/g, '')
        .replace('rx_?(queue_)?\\d+', 'rx*')
        .replaceAll('\\d+', '*')
        .replace(/\((.*)\)/, '{$1}');

/** What a driver's list has, for documentation and tests. */
export interface DriverCounter {
  driver: string;
  /** Names for the same; the first that is there counts. A pattern of queues as `*`. */
  names: string[];
  /** undefined: tells of trouble, and is in no sum. */
  loss: NicLoss | undefined;
}

/** Every counter of every list. */
export function driverCounterList(): DriverCounter[] {
  return Object.entries(BOOKS).flatMap(([driver, book]) => [
    ...NIC_LOSSES.flatMap((loss) =>
      (book.losses[loss] ?? []).map((group) => ({ driver, names: group.map(nameOf), loss })),
    ),
    ...Object.entries(book.link ?? {}).map(([name, loss]) => ({
      driver,
      names: [LINK_NAMES[name as keyof LinkCounters]],
      loss,
    })),
    ...(book.warnings ?? []).map((name) => ({ driver, names: [nameOf(name)], loss: undefined })),
  ]);
}

/** The driver has a list of its own. */
export function isKnownDriver(driver: string): boolean {
  return Object.hasOwn(BOOKS, driver);
}

/**
 * What the counters of a card say of losses, by the driver's list or, for others, by what all interfaces have.
 * @param sockets its packets are taken by AF_XDP: what those had no room for is in no sum of the card
 */
export function nicCounters(
  driver: string,
  counters: Readonly<Record<string, number>>,
  link: LinkCounters,
  sockets = false,
): NicCounter[] {
  const book = isKnownDriver(driver) ? BOOKS[driver] : OTHERS;
  const out: NicCounter[] = [];
  for (const loss of NIC_LOSSES)
    for (const group of book.losses[loss] ?? []) {
      const name = group.find((each) => valueOf(each, counters) !== undefined);
      if (name === undefined) continue;
      const told = sockets && loss === book.socketsIn ? undefined : loss;
      out.push({ name: nameOf(name), value: valueOf(name, counters) ?? 0, loss: told });
    }
  for (const [name, loss] of Object.entries(book.link ?? {}))
    out.push({ name: LINK_NAMES[name as keyof LinkCounters], value: link[name as keyof LinkCounters], loss });
  for (const name of book.warnings ?? []) {
    const value = valueOf(name, counters);
    if (value !== undefined) out.push({ name: nameOf(name), value, loss: undefined });
  }
  if (book === OTHERS) out.push({ name: LINK_NAMES.rxDropped, value: link.rxDropped, loss: undefined });
  return out;
}

/** As `ip -s -s link` and sysfs name them. */
const LINK_NAMES: Readonly<Record<keyof LinkCounters, string>> = {
  rxMissed: 'rx_missed_errors',
  rxDropped: 'rx_dropped',
  rxErrors: 'rx_errors',
};
