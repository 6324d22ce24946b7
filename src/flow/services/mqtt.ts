import { isAt, u16be } from './bytes.ts';
import { bySide, never, oneOf } from './choice.ts';
import { BAD_HEADER, FrameParser, wants } from './frames.ts';
import { type Service, ServiceNews, type ServiceParser } from './service.ts';

const CONNECT = 0x10;
const CONNACK = 0x20;
const KEEP = 16;

/** MQTT 3.1, 3.1.1 and 5: confirmed by the CONNECT of the client. */
class MqttParser extends FrameParser {
  constructor() {
    super(KEEP);
  }

  protected headerBytes(): number {
    return 2;
  }

  /** Type and flags, and the remaining length in up to four bytes of seven bits. */
  protected header(fromOrig: 0 | 1, u8: Uint8Array, bytes: number): number {
    if (!this.sure && u8[0] !== (fromOrig === 1 ? CONNECT : CONNACK)) return BAD_HEADER;
    if (u8[bytes - 1] > 127) return bytes < 5 ? wants(bytes + 1) : BAD_HEADER;
    let length = 0;
    for (let i = bytes - 1; i > 0; i--) length = length * 128 + (u8[i] & 0x7f);
    return length;
  }

  protected message(fromOrig: 0 | 1, u8: Uint8Array, at: number, kept: number): number {
    if (this.sure) return ServiceNews.done;
    if (fromOrig === 0) return 0;
    const end = at + kept;
    const named =
      kept > 10 &&
      ((u16be(u8, at) === 4 && isAt(u8, at + 2, end, 'MQTT')) ||
        (u16be(u8, at) === 6 && isAt(u8, at + 2, end, 'MQIsdp')));
    return named ? this.confirm() : ServiceNews.rejected;
  }
}

export const MQTT: Service = {
  name: 'mqtt',
  transport: 'tcp',
  first: bySide(oneOf(CONNECT), never),
  looksLike(u8, offset, length, fromOrig) {
    if (fromOrig === 0 || u8[offset] !== CONNECT) return false;
    let at = 1;
    while (at < length && at < 4 && u8[offset + at] > 127) at++;
    const name = at + 3;
    if (name + 1 >= length) return at + 1 >= length || u8[offset + at + 1] === 0;
    return isAt(u8, offset + name, offset + name + 2, 'MQ');
  },
  parser: (): ServiceParser => new MqttParser(),
};
