import { bytesOf } from '../../../lab/bytes.ts';
import type { Choice } from '../../../src/flow/services/choice.ts';
import { CHOICES, SERVICES } from '../../../src/flow/services/index.ts';
import { Recognition } from '../../../src/flow/services/recognition.ts';
import { type Service, ServiceNews, type ServiceParser } from '../../../src/flow/services/service.ts';
import { ANY_PORT, type Example, examples } from '../../flow/services/examples.ts';
import { between, check, type Input, type Target } from './input.ts';

const ALL_NEWS = Object.values(ServiceNews).reduce<number>((sum, bit) => sum | bit, 0);
const PORTS = [ANY_PORT, 53, 80, 123, 443, 1812, 4500, 5353, 6379, 8080];
const MAX_NAMES = 8;
const MAX_INSIDE = 16;
const MAX_ANNOUNCED = 16;

const inputOf = ({ said, respPort }: Example): Input => ({
  port: respPort,
  pieces: said.map(([from, text]) => ({ from, bytes: Uint8Array.from(bytesOf(text)) })),
});

/** Feeds a parser, and tells what came of it. */
function fed(service: Service, parser: ServiceParser, input: Input, filler: number, before: number): string {
  const out: unknown[] = [];
  let confirmed = 0;
  let over = false;
  for (const { from, bytes } of input.pieces) {
    if (bytes.length === 0) continue;
    const memory = between(bytes, filler, before);
    if (parser.unwrap !== undefined) {
      const news = parser.unwrap(from, memory, before, bytes.length, (_side, u8, offset, length) => {
        check(length >= 0 && offset >= 0 && offset + length <= u8.length, 'payload outside of its memory');
        out.push(length);
      });
      out.push(news);
      continue;
    }
    if (over) break;
    const suggested = service.looksLike(memory, before, bytes.length, from, input.port);
    check(!suggested || service.first?.(bytes[0], from) !== false, `${bytes[0]} is no first byte`);
    out.push(suggested);
    const news = parser.data(from, memory, before, bytes.length);
    check((news & ~ALL_NEWS) === 0, `unknown news ${news}`);
    if ((news & ServiceNews.confirmed) !== 0) confirmed++;
    check(confirmed <= 1, 'confirmed twice');
    over = (news & (ServiceNews.done | ServiceNews.rejected | ServiceNews.handsOver)) !== 0;
    const rest = (news & ServiceNews.handsOver) === 0 ? 0 : (parser.rest ?? 0);
    check(rest >= 0 && rest <= bytes.length, `${rest} of ${bytes.length} bytes are left`);
    check((parser.inside?.length ?? 0) <= MAX_INSIDE, 'names without end');
    check((parser.announced?.length ?? 0) <= MAX_ANNOUNCED, 'announcements without end');
    out.push(news, rest);
  }
  // After it has said that it is done it may still be called.
  parser.data(1, Uint8Array.of(0), 0, 1);
  out.push(parser.inside, parser.announced, parser.tls);
  return JSON.stringify(out);
}

function serviceTarget(service: Service, all: readonly Example[]): Target {
  const own = all.filter(
    ({ transport, found }) => transport === service.transport && found.split(',').includes(service.name),
  );
  return {
    name: `${service.name} ${service.transport}`,
    seeds: own.map(inputOf),
    ports: PORTS,
    run(input) {
      const a = fed(service, service.parser(input.port), input, 0x31, 3);
      const b = fed(service, service.parser(input.port), input, 0, 8);
      check(a === b, `what stands beyond the bytes matters:\n${a}\n${b}`);
    },
    hold(input) {
      const parser = service.parser(input.port);
      fed(service, parser, input, 0, 0);
      return parser;
    },
  };
}

function recognized(recognition: Recognition, choice: Choice, input: Input, filler: number): string {
  recognition.begin(choice, input.port);
  const out: unknown[] = [];
  for (const { from, bytes } of input.pieces) {
    out.push(recognition.feed(from, between(bytes, filler, 3), 3, bytes.length));
    check(recognition.names.length <= MAX_NAMES, 'names without end');
    out.push(recognition.announced.splice(0).length, recognition.candidates);
  }
  out.push(...recognition.names, recognition.tls);
  return JSON.stringify(out);
}

/** All recognizers of a transport together: what they hand over, and to whom. */
function recognitionTarget(transport: 'tcp' | 'udp', all: readonly Example[]): Target {
  const choice = CHOICES[transport];
  const used = new Recognition();
  return {
    name: `recognition ${transport}`,
    seeds: all.filter((example) => example.transport === transport).map(inputOf),
    ports: PORTS,
    run(input) {
      const a = recognized(used, choice, input, 0x31);
      check(a === recognized(used, choice, input, 0), 'what stands beyond the bytes, or was before, matters');
      used.release();
    },
    hold(input) {
      const recognition = new Recognition();
      recognized(recognition, choice, input, 0);
      return recognition;
    },
  };
}

/** Every recognizer that there is, by its place in the one list of them. */
export async function serviceTargets(): Promise<Target[]> {
  const all = await examples();
  return [
    ...SERVICES.map((service) => serviceTarget(service, all)),
    recognitionTarget('tcp', all),
    recognitionTarget('udp', all),
  ];
}
