/** What `gate up --abi` takes: other sensors, in the forms of their tables. */
export const ABIS = ['zeek', 'suricata', 'suricata-shared', 'suricata-filter'] as const;
export type Abi = (typeof ABIS)[number];

/** Where xdp-zeek looks unless it is told otherwise. */
export const ZEEK_DIRECTORY = '/sys/fs/bpf/zeek';
