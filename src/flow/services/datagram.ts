import { type FirstByte, type Service, ServiceNews, type ServiceParser } from './service.ts';

const SURE = ServiceNews.confirmed | ServiceNews.done;

/** Whether the datagram is a whole message of the protocol. */
export type IsMessage = (u8: Uint8Array, offset: number, length: number, respPort: number) => boolean;

/** A service over UDP of which any message is enough: `isMessage` has looked at all of it. */
export function oneMessage(name: string, first: FirstByte, isMessage: IsMessage): Service {
  const parser: ServiceParser = { data: () => SURE };
  return {
    name,
    transport: 'udp',
    first,
    looksLike: (u8, offset, length, _fromOrig, respPort) => isMessage(u8, offset, length, respPort),
    parser: () => parser,
  };
}

/** A service over UDP that is confirmed when the responder answers with a message, as Zeek does for some. */
export function answered(name: string, first: FirstByte, isMessage: IsMessage): Service {
  return {
    name,
    transport: 'udp',
    first,
    looksLike: (u8, offset, length, _fromOrig, respPort) => isMessage(u8, offset, length, respPort),
    parser: (respPort) => ({
      data: (fromOrig, u8, offset, length) => {
        if (!isMessage(u8, offset, length, respPort)) return ServiceNews.rejected;
        return fromOrig === 0 ? SURE : 0;
      },
    }),
  };
}
