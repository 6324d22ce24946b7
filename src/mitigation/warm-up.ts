import { eth } from '../packet/build.ts';
import { Packet } from '../packet/packet.ts';
import { SampleColumns } from './columns.ts';
import { SampleReader } from './read-sample.ts';
import { Responder } from './responder.ts';
import { Chance } from './window.ts';

/** How often it is done: the second time is the one that the compiler of the runtime has waited for. */
const TIMES = 2;
/** Samples before the attack and of it, at so many a second. */
const USUAL = 600;
const ATTACK = 1200;
const RATE = 2000;
const SEED = 7;

/** Traffic that nobody has seen: attacks of each sort of rule beside it. */
function frames(): Uint8Array[] {
  const chance = new Chance(SEED);
  const host = (): string => `198.51.100.${1 + chance.below(250)}`;
  const port = (): number => 1024 + chance.below(60_000);
  const ip = (dst: string) => eth().ipv4({ src: host(), dst, ttl: 40 + chance.below(20) });
  const usual = (at: number): Uint8Array =>
    at % 2 === 0
      ? ip('192.0.2.1').tcp({ sport: port(), dport: 443, flags: 'A' }).payload('x').bytes()
      : ip('192.0.2.2').udp({ sport: port(), dport: 443 }).payload('x').bytes();
  const letters = (): number[] => Array.from({ length: 8 }, () => 97 + chance.below(26));
  const query = (): Uint8Array =>
    Uint8Array.of(0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 8, ...letters(), 1, 120, 7, ...INVALID, 0, 0, 1, 0, 1);
  const attacks = [
    () => ip('192.0.2.1').udp({ sport: 123, dport: port() }).payload(new Uint8Array(440)).bytes(),
    () => ip('192.0.2.1').tcp({ sport: port(), dport: 80, flags: 'S', window: 512 }).bytes(),
    () => ip('192.0.2.3').udp({ sport: port(), dport: 53 }).payload(query()).bytes(),
  ];
  return [
    ...Array.from({ length: USUAL }, (_, at) => usual(at)),
    ...Array.from({ length: ATTACK }, (_, at) => attacks[at % attacks.length]()),
  ];
}
const INVALID = new TextEncoder().encode('invalid');

/**
 * Finds attacks in made-up traffic and makes rules against them, for nobody: what does it is then compiled when the first attack comes,
 * which would wait several times as long otherwise. Some 0.2 s of CPU time.
 */
export function warmUp(): void {
  const made = columnsOf(frames());
  for (let i = 0; i < TIMES; i++)
    new Responder(() => {}, { learning: 0, minPps: 100, targets: 256, memory: 1024 }).add(made);
}

function columnsOf(made: readonly Uint8Array[]): SampleColumns {
  const reader = new SampleReader();
  const packet = new Packet();
  const columns = new SampleColumns(made.length);
  for (const [at, frame] of made.entries()) {
    packet.u8 = frame;
    packet.caplen = frame.length;
    packet.wirelen = frame.length;
    packet.ts = 1 + at / RATE;
    if (reader.read(packet, 1, columns, columns.count)) columns.count++;
  }
  return columns;
}
