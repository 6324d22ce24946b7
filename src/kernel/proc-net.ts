/** What the kernel tells of its network stack as text under /proc/net. Whatever the text is, readers give what there is of it. */

/** One CPU's line of /proc/net/softnet_stat; counters have 32 bits. */
export interface SoftnetRow {
  cpu: number;
  processed: number;
  /** The backlog of the CPU had no room. */
  dropped: number;
  /** The time or budget of one softirq was used up while there was more to do. */
  squeezed: number;
}

/** Columns of /proc/net/softnet_stat are hexadecimal, and have no heading; the 13th is the CPU. */
export function softnet(text: string): SoftnetRow[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line, row) => {
      const columns = line
        .trim()
        .split(/\s+/)
        .map((word) => Number.parseInt(word, 16) || 0);
      return {
        cpu: columns.length > 12 ? columns[12] : row,
        processed: columns[0] ?? 0,
        dropped: columns[1] ?? 0,
        squeezed: columns[2] ?? 0,
      };
    });
}

/** The counters of one protocol in /proc/net/snmp, such as `Udp`: a line of names, and one of values. */
export function snmp(text: string, protocol: string): Record<string, number> {
  const rows = text
    .split('\n')
    .filter((line) => line.startsWith(`${protocol}:`))
    .map((line) =>
      line
        .slice(protocol.length + 1)
        .trim()
        .split(/\s+/),
    );
  if (rows.length < 2) return {};
  const [names, values] = rows;
  return Object.fromEntries(names.map((name, i) => [name, Number(values[i]) || 0]));
}

/** The counters of one protocol in /proc/net/snmp6, such as `Udp6`: a name and a value a line. */
export function snmp6(text: string, protocol: string): Record<string, number> {
  return Object.fromEntries(
    text.split('\n').flatMap((line) => {
      const [name = '', value = ''] = line.trim().split(/\s+/);
      return name.startsWith(protocol) ? [[name.slice(protocol.length), Number(value) || 0]] : [];
    }),
  );
}
