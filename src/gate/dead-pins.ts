import { readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type FileLock, lockFile, netnsInode } from '../kernel/index.ts';

const NAMESPACE = /^net:\[(\d+)\]$/;

/** Inodes of the network namespaces that a process is in or a mount holds. */
function liveNamespaces(): Set<string> {
  const live = new Set([String(netnsInode())]);
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const inode = NAMESPACE.exec(readlinkSync(`/proc/${entry}/ns/net`))?.[1];
      if (inode !== undefined) live.add(inode);
    } catch {
      // Ended meanwhile.
    }
  }
  for (const [, inode = ''] of readFileSync('/proc/self/mountinfo', 'utf8').matchAll(/ net:\[(\d+)\] /g))
    live.add(inode);
  return live;
}

/**
 * Frees what killed runs have pinned in network namespaces that are gone (a lab's, say): no later run would come by.
 * A lock file that nobody holds shows that the run has ended; where there is none, nothing is touched.
 */
export function removeDeadPins(pinRoot: string, locks: string): void {
  const left = readdirSync(locks).flatMap((file) => {
    const [, name, inode] = /^((\d+)-\d+)\.lock$/.exec(file) ?? [];
    return name === undefined ? [] : [{ file, name, inode }];
  });
  if (left.length === 0) return;
  const live = liveNamespaces();
  for (const { file, name, inode } of left) {
    if (live.has(inode)) continue;
    let lock: FileLock | undefined;
    try {
      lock = lockFile(join(locks, file));
      if (lock === undefined) continue;
      rmSync(join(pinRoot, name), { recursive: true, force: true });
      // What the daemon of a gate left beside its lock.
      for (const ending of ['sock', 'json', 'rules', 'baseline', 'attacks'])
        rmSync(join(locks, `${name}.${ending}`), { force: true });
      lock.remove();
    } catch {
      // Another user's, who may remove it: in nobody's way.
      lock?.release();
    }
  }
}
