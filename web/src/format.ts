/** Numbers as people read them. What is not known is a dash, never a zero. */

const DASH = '–';
const PREFIXES = ['', 'k', 'M', 'G', 'T', 'P'] as const;

/** Three digits and a unit of powers of 1000: `1.23 Gbit/s`. */
export function scaled(value: number, unit: string): string {
  if (!Number.isFinite(value)) return DASH;
  let size = Math.abs(value);
  let step = 0;
  // 999.95 would be written as 1000.
  while (size >= 999.5 && step < PREFIXES.length - 1) {
    size /= 1000;
    step++;
  }
  const digits =
    step === 0 ? (size >= 10 || Number.isInteger(size) ? 0 : 1) : size < 9.995 ? 2 : size < 99.95 ? 1 : 0;
  return `${value < 0 ? '−' : ''}${size.toFixed(digits)} ${PREFIXES[step]}${unit}`.trimEnd();
}

export function count(value: number): string {
  return Number.isFinite(value) ? Math.round(value).toLocaleString('en-US') : DASH;
}

/** A share from 0 to 1. A little is not nothing, and nearly all is not all. */
export function percent(part: number, whole = 1): string {
  if (!(whole > 0) || !Number.isFinite(part)) return DASH;
  const value = (100 * part) / whole;
  if (value > 0 && value < 0.1) return '< 0.1 %';
  if (value > 99.9 && value < 100) return '> 99.9 %';
  return `${value.toFixed(value < 10 ? 1 : 0)} %`;
}

export function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return DASH;
  const s = Math.max(0, seconds);
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 120) return `${Math.floor(s)} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  if (s < 172_800) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86_400)} d`;
}

/** Of the day, local, from seconds since 1970. */
export function clock(seconds: number): string {
  return new Date(seconds * 1000).toLocaleTimeString('en-GB');
}

export function endpoint({ addr, port }: { addr: string; port: number }): string {
  return addr.includes(':') ? `[${addr}]:${port}` : `${addr}:${port}`;
}

/** Ids of VLANs and tunnels behind the ends of a flow, as the search takes them. */
export function tags(flow: { vlan: number; innerVlan: number; vni: number; geneveVni: number }): string {
  const { vlan, innerVlan, vni, geneveVni } = flow;
  return [
    vlan === 0 ? '' : ` vlan ${vlan}${innerVlan === 0 ? '' : `.${innerVlan}`}`,
    vni === 0 ? '' : ` vni ${vni}`,
    geneveVni === 0 ? '' : ` geneve-vni ${geneveVni}`,
  ].join('');
}

/** The name of a field as words: `effectiveSources` is `effective sources`. */
export const words = (name: string): string =>
  name.replaceAll(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);

/** What an attack was told from: counts whole, shares short, lists and groups in one line. */
export function evidenceText(value: unknown): string {
  if (typeof value === 'number')
    return Number.isInteger(value) || Math.abs(value) >= 1000
      ? count(value)
      : String(Number(value.toPrecision(2)));
  if (typeof value !== 'object' || value === null) return String(value);
  if (Array.isArray(value)) return value.map(evidenceText).join(', ') || 'none';
  const parts = Object.entries(value).map(([name, part]) => `${words(name)} ${evidenceText(part)}`);
  return parts.join(', ') || 'none';
}
