/** `sluice run` in a process of its own for `sluice bench shunt`, whose live view goes to the parent, two texts a second. */
import { Writable } from 'node:stream';
import { main } from '../src/cli/main.ts';

/** A terminal that nobody looks at. */
const view = new Writable({
  write(chunk: Buffer, _encoding, done) {
    process.send?.(chunk.toString());
    done();
  },
});
const stderr = Object.assign(view, { isTTY: true, columns: 1000 });
process.exitCode = await main(
  process.argv.slice(2),
  { ...process.env, NO_COLOR: '1' },
  {
    stdout: process.stdout,
    stderr,
  },
);
process.disconnect();
