import { SluiceError } from '../base/errors.ts';

/** TCP and UDP ports whose owner is taken for the responder when a connection is joined in the middle. */
export interface LikelyServerPorts {
  tcp: readonly number[];
  udp: readonly number[];
}

/** What Zeek's default scripts register as likely_server_ports. */
export const DEFAULT_SERVER_PORTS: LikelyServerPorts = {
  tcp: [
    21, 22, 25, 53, 79, 80, 81, 88, 135, 139, 143, 389, 443, 445, 465, 502, 514, 563, 585, 587, 614, 631, 636,
    989, 990, 992, 993, 995, 1080, 1434, 1883, 2811, 3128, 3268, 3306, 3389, 5222, 5223, 5269, 5432, 6379,
    6666, 6667, 6668, 6669, 8000, 8080, 8888, 20000,
  ],
  udp: [
    53, 67, 88, 123, 137, 161, 162, 389, 443, 514, 1812, 2123, 2152, 3389, 3544, 4011, 4754, 4789, 5060, 5072,
    5353, 5355, 6081, 20000,
  ],
};

/** What is left of them in Zeek's bare mode: the tunnels. */
export const BARE_SERVER_PORTS: LikelyServerPorts = {
  tcp: [],
  udp: [2123, 2152, 3544, 4754, 4789, 5072, 6081],
};

/** One byte per port. Errors: USAGE for what is no port. */
export function portSet(ports: readonly number[]): Uint8Array {
  const set = new Uint8Array(65_536);
  for (const port of ports) {
    if (!Number.isInteger(port) || port < 0 || port > 65_535)
      throw new SluiceError('USAGE', `${port} is no port number`, { help: 'ports are 0 to 65535' });
    set[port] = 1;
  }
  return set;
}

/** Ports of the responder behind which somebody types: their connections may be silent for longer. */
export const INTERACTIVE = portSet([21, 22, 23, 513]);
