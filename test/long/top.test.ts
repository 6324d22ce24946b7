import { join } from 'node:path';
import { expect } from 'vitest';
import { conversation } from '../../src/packet/conversation.ts';
import { Feed, LogDir, mixed, runOn, SLUICE } from '../sensor/run.ts';
import { sluice } from '../support/command.ts';
import { kernelTest, ownNetns, until, vethPair } from '../support/kernel.ts';
import { lacksTerminal, Terminal } from '../support/terminal.ts';

ownNetns();

const CTRL_C = '\x03';
/** Leaves the other screen, with the cursor. */
const RESTORED = '\x1b[?25h\x1b[?1049l';
/** Seconds for what takes one when the machine is quiet. */
const PATIENCE = 60;
const BY_HAND = 'tcp 192.0.2.1:50001 192.0.2.2:443';

const top = (ifname: string, columns: number, rows: number, ...more: string[]): Terminal =>
  new Terminal(columns, rows, [...SLUICE, 'top', '-i', ifname, '--interval', '200ms', ...more]);

kernelTest(
  'sluice top in a terminal: views, sorting, pause, any size, what is old, and a terminal as it was before',
  ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing'],
  async (context) => {
    const lack = lacksTerminal();
    if (lack !== undefined) context.skip(lack);
    const { a, b, remove } = vethPair();
    using logs = new LogDir();
    try {
      await using run = await runOn(
        a,
        logs,
        '--policy',
        'bulk=20kB',
        '--mitigate',
        '--rule-store',
        join(logs.path, 'store'),
        '--min-pps',
        '10000000',
      ).ready();
      await sluice('rule', 'add', '-i', a, '--id', 'spare', '--action', 'drop', 'udp port 9');
      await sluice('shunt', 'add', '-i', a, '--flow', BY_HAND);
      const frames = mixed([
        conversation({
          client: { address: '192.0.2.8', port: 8001 },
          server: { address: '192.0.2.9', port: 80 },
          turns: [{ from: 'server', data: 400_000 }],
          mss: 1400,
        }),
      ]);
      await new Feed(b, frames, 6000).done;

      await using terminal = top(a, 100, 40);
      const untilScreen = async (isSo: (screen: readonly string[]) => boolean, why: string): Promise<void> =>
        await until(() => isSo(terminal.screen), why, PATIENCE).catch((error: Error) => {
          throw new Error(`${error.message}:\n${terminal.screen.join('\n')}`);
        });
      const shows = async (what: RegExp, why: string): Promise<void> =>
        await untilScreen((screen) => what.test(screen.join('\n')), why);
      // The figures of the gate, with what is shunted.
      await shows(new RegExp(`^sluice top · run on ${a} \\(`), 'there is no frame');
      await shows(new RegExp(`^seen .* ${frames.length} packets$`, 'm'), 'it does not show what was seen');
      await shows(/^q quit/m, 'it does not say its keys');
      await shows(/ tcp 192\.0\.2\.1:50001 192\.0\.2\.2:443 {2}manual$/m, 'it does not show what is shunted');

      // Each view by its letter, and in turn.
      for (const [key, title] of [
        ['t', /talkers of what is shunted$/m],
        ['r', /^rules \(1\)/m],
        ['a', /^no attack is under way$/m],
        ['l', /^ {2}capture /m],
        ['f', /shunted flow, by rate$/m],
      ] as const) {
        terminal.type(key);
        await shows(title, `${key} shows something else`);
      }
      terminal.type('s');
      await shows(/shunted flow, by packets$/m, 's does not sort');
      terminal.type('\t');
      await shows(/talkers of/, 'Tab does not go on');

      // Paused figures say so, and go on.
      terminal.type('p');
      await shows(/^PAUSED at/, 'p does not pause');
      terminal.type(' ');
      await shows(/^sluice top/, 'it does not go on');

      // Any size, and back; what has no room is left out.
      for (const [columns, rows] of [
        [40, 12],
        [8, 3],
        [1, 1],
        [200, 60],
      ] as const) {
        terminal.resize(columns, rows);
        await untilScreen(
          (screen) =>
            screen.length <= rows &&
            screen.every((line) => line.length <= columns) &&
            (rows < 60 || screen.length > 12),
          `it does not fit into ${columns} × ${rows}`,
        );
      }

      // What has stopped answering is not shown as if it were of now.
      run.process.kill('SIGSTOP');
      await shows(/^NO ANSWER for \d+ s: figures are of/, 'figures that are old look new');
      run.process.kill('SIGCONT');
      await shows(/^sluice top/, 'it does not come back');

      terminal.type('q');
      expect(await terminal.end()).toEqual({ code: 0, echo: true, canonical: true });
      expect(terminal.text.trimEnd().endsWith(RESTORED)).toBe(true);
      {
        // A terminal that does not know its size.
        await using other = top(a, 0, 0, '--view', 'rules');
        await until(
          () => other.screen.some((line) => line.startsWith('rules (1)')),
          'nothing is shown without a size',
          PATIENCE,
        );
        other.type(CTRL_C);
        expect(await other.end()).toMatchObject({ code: 0, echo: true, canonical: true });
      }
      // A run that ends takes nothing of the terminal with it.
      await using last = top(a, 80, 24);
      await until(() => last.screen.length > 0, 'there is no frame', PATIENCE);
      await run.stop();
      expect(await last.end()).toEqual({ code: 1, echo: true, canonical: true });
      const [, after = ''] = last.text.split(RESTORED);
      expect(after).toMatch(/error\[GATE_DOWN\]|error\[CONTROL\]/);
    } finally {
      remove();
    }
  },
);
