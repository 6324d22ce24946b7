import type { CommandIo } from '../base/io.ts';
import { FileSource } from '../capture/file.ts';
import { ClassicEngine, compileFilterText, dltOf, FrameBatch } from '../filter/index.ts';
import type { Packet } from '../packet/packet.ts';
import type { Rule } from '../rules/spec.ts';
import { ReadProgress } from './progress.ts';

const ETHERNET = 1;

export interface RuleTestReport {
  packets: number;
  /** Frames of other link types, which no gate ever sees. */
  others: number;
  rules: { id: string; expr: string; lang: string; matched: { pkts: number; bytes: number } }[];
}

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

/** Runs every rule alone over the Ethernet frames of a file, with libpcap's interpreter. */
export async function testRules(
  rules: readonly Pick<Rule, 'id' | 'expr' | 'lang'>[],
  file: string,
  io: CommandIo,
): Promise<RuleTestReport> {
  const tested = rules.map(({ id, expr, lang }) => ({
    engine: new ClassicEngine(compileFilterText(expr, lang)),
    row: { id, expr, lang, matched: { pkts: 0, bytes: 0 } },
  }));
  const report: RuleTestReport = { packets: 0, others: 0, rules: tested.map(({ row }) => row) };
  const batch = new FrameBatch();
  const flush = (): void => {
    for (const { engine, row } of tested) {
      engine.run(batch);
      for (let i = 0; i < batch.count; i++) {
        if (batch.returns[i] === 0) continue;
        row.matched.pkts++;
        row.matched.bytes += batch.frames[3 * i + 2];
      }
    }
    batch.clear();
  };
  const sink = (packet: Packet): void => {
    if (dltOf(packet.linkType) !== ETHERNET) {
      report.others++;
      return;
    }
    report.packets++;
    batch.add(packet.u8, packet.offset, packet.caplen, packet.wirelen);
    if (batch.full) flush();
  };
  const source = FileSource.open(file);
  const progress = new ReadProgress(io, source.totalBytes);
  try {
    while (!io.stop.aborted && source.drain(sink, 4096)) {
      progress.show(source.readBytes, report.packets);
      await (source.starved ? source.wait() : turn());
    }
    flush();
    if (source.problem !== undefined) throw source.problem;
  } finally {
    progress.done();
    source.close();
  }
  return report;
}
