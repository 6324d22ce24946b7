/** The command line run from source, so that a test never sees a stale build: `node test/support/sluice.ts ARGS`. */
import { main } from '../../src/cli/main.ts';

process.exitCode = await main(process.argv.slice(2), process.env);
