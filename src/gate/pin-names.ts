/** Under which the link of a gate that outlives its process is pinned; `home`: whose name the directory bears. */
export const linkPin = (ifindex: number, home: number): string =>
  ifindex === home ? 'link' : `link-${ifindex}`;

/** Of a gate behind libxdp's dispatchers: the slot that its components go on by, and each of them. */
export const COMPONENT_PINS = {
  entry: 'entry',
  program: (ifindex: number, home: number): string =>
    ifindex === home ? 'component' : `component-${ifindex}`,
} as const;

const SEAT = /^(link|component)(?:-(\d+))?$/;

/** Which interface a pin is the seat of, and of what kind. */
export function seatOf(
  name: string,
  home: number,
): { kind: 'link' | 'component'; ifindex: number } | undefined {
  const found = SEAT.exec(name);
  if (found === null) return undefined;
  return {
    kind: found[1] as 'link' | 'component',
    ifindex: found[2] === undefined ? home : Number(found[2]),
  };
}

/** Only who made them may take the gate off: links, components, and what these go on by. */
export const isPrivatePin = (name: string): boolean => name === COMPONENT_PINS.entry || SEAT.test(name);
