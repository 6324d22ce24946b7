import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { SluiceError } from '../src/base/errors.ts';
import { packageRoot } from '../src/kernel/index.ts';

/** Path of a built BPF object, by its name without endings. @throws SluiceError OBJECT_INVALID when it has not been built */
export function objectPath(name: string): string {
  const path = join(packageRoot(), 'build', 'bpf', `${name}.bpf.o`);
  if (!existsSync(path)) {
    throw new SluiceError('OBJECT_INVALID', `${path} is missing`, { help: 'build it with `npm run build`' });
  }
  return path;
}
