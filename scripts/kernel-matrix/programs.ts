import { join } from 'node:path';
import { packageRoot } from '../../src/kernel/index.ts';
import { verifierEffort } from '../../test/gate/verifier-effort.ts';

/** Of kernel-matrix.sh: loads every program with each of its options; what the kernel refuses ends it with the reason. */
const programs = Object.keys(verifierEffort(join(packageRoot(), 'build', 'bpf'), false));
process.stdout.write(`${programs.length} programs\n`);
