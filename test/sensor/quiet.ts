import type { Lab } from '../../lab/lab.ts';
import { eventually } from '../gate/daemon-support.ts';

/**
 * Waits until both ends of a lab have said all that they had to say, and the taps have got it: the last packets of connections that
 * have ended come after whoever made them was told. Not for connections that stay open.
 */
export async function untilQuiet(lab: Lab): Promise<void> {
  let before = -1;
  await eventually(async () => {
    for (const end of ['client', 'server'] as const) {
      const { stdout } = await lab.exec(end, ['ss', '-Htan']);
      const busy = stdout.split('\n').some((line) => line !== '' && !/^(LISTEN|TIME-WAIT)/.test(line));
      if (busy) return undefined;
    }
    const [a, b] = [await lab.mirrorCounters('a'), await lab.mirrorCounters('b')];
    const sent = a.txPackets + b.txPackets;
    const rests = sent === before && a.backlog + b.backlog === 0;
    before = sent;
    return rests ? true : undefined;
  }, 'the lab does not come to rest');
}
