import { type Decoder, IpProto } from '../packet/decode.ts';
import { type LikelyServerPorts, portSet } from './ports.ts';

/** Whether the first packet of a flow comes from its responder, as Zeek guesses it from likely_server_ports. */
export class Directions {
  readonly #tcpServers: Uint8Array;
  /** One byte a port. */
  readonly udpServers: Uint8Array;

  /** Errors: USAGE for what is no port. */
  constructor(ports: LikelyServerPorts) {
    this.#tcpServers = portSet(ports.tcp);
    this.udpServers = portSet(ports.udp);
  }

  /** Whether the first packet of a flow looks as if the responder had sent it. */
  beginsAtServer(decoder: Decoder, u8: Uint8Array): boolean {
    let flip = false;
    if (decoder.protocol === IpProto.udp) {
      flip = this.udpServers[decoder.sourcePort] === 1 && this.udpServers[decoder.destinationPort] === 0;
    } else if (decoder.protocol === IpProto.tcp) {
      const flags = u8[decoder.transport + 13] & 0x12;
      if (flags === 2 || this.#tcpServers[decoder.sourcePort] === 0) return false;
      flip =
        this.#tcpServers[decoder.destinationPort] === 0 ||
        ((flags & 2) === 0 && decoder.sourcePort < decoder.destinationPort);
    }
    if (!flip || decoder.family === 6) return flip;
    // Nobody is reached at the broadcast address: the first sender stays the originator.
    const to = decoder.destination;
    return !(u8[to] === 255 && u8[to + 1] === 255 && u8[to + 2] === 255 && u8[to + 3] === 255);
  }
}
