import { readdirSync, readlinkSync } from 'node:fs';

/** Descriptors that the runtime opens when it likes: its event loops, and the files it reads modules from. */
const RUNTIME =
  /^(anon_inode:\[(eventpoll|eventfd|io_uring|timerfd|pidfd)\]|\/dev\/(null|urandom)|.*\/node_modules\/.*)$/;

/** Descriptors of this process, those of the runtime aside: by number and what they are open on. */
export function descriptors(): Map<string, string> {
  const found = new Map<string, string>();
  for (const fd of readdirSync('/proc/self/fd')) {
    try {
      const target = readlinkSync(`/proc/self/fd/${fd}`);
      if (!RUNTIME.test(target) && !target.startsWith(`/proc/${process.pid}/fd`))
        found.set(`${fd} ${target}`, fd);
    } catch {
      // The one that readdir itself used.
    }
  }
  return found;
}
