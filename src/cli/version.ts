import { readFileSync } from 'node:fs';

/** The version of the package that this file belongs to, run from source or compiled. */
export function version(): string {
  for (let dir = new URL('.', import.meta.url); dir.pathname !== '/'; dir = new URL('..', dir)) {
    try {
      const { name, version: found } = JSON.parse(
        readFileSync(new URL('package.json', dir), 'utf8'),
      ) as Record<string, unknown>;
      if (name === 'sluice' && typeof found === 'string') return found;
    } catch {
      // No package.json here: look one folder up.
    }
  }
  return 'unknown';
}
