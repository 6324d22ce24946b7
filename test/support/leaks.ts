/**
 * Runs around every test file (vitest's setupFiles): what the file opened must be closed when it ends. Checked are
 * descriptors, BPF objects among them, memory and watches of the addon, and pins that nothing alive can own.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { loadedAddon } from '../../src/kernel/addon.ts';
import { descriptors } from './descriptors.ts';

const PINS = '/sys/fs/bpf';
/** Closing a socket or a worker takes some turns of the event loop, and others may have the processor meanwhile. */
const PATIENCE_MS = Number(process.env['LEAK_PATIENCE_MS'] ?? 30_000);

/** What a descriptor is: of BPF objects their ids and types too. */
function describe(key: string, fd: string): string {
  try {
    const info = readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8');
    const bpf = info.split('\n').filter((line) => /^(map|prog|link)_(type|id)|^ifindex/.test(line));
    return bpf.length === 0
      ? `descriptor ${key}`
      : `descriptor ${key} (${bpf.join(', ').replaceAll('\t', ' ')})`;
  } catch {
    return `descriptor ${key}`;
  }
}

function pins(): string[] {
  try {
    return readdirSync(PINS, { recursive: true, encoding: 'utf8' }).filter((path) =>
      path.startsWith('sluice'),
    );
  } catch {
    return [];
  }
}

/**
 * Inodes of the network namespaces that some process, or a mount of `ip netns`, keeps alive; undefined where that cannot be known:
 * without privilege other processes' are hidden.
 */
function liveNamespaces(): Set<string> | undefined {
  const live = new Set<string>();
  let hidden = false;
  const add = (path: string): void => {
    try {
      live.add(String(statSync(path).ino));
    } catch (error) {
      // Else the process has ended.
      hidden ||= ['EACCES', 'EPERM'].includes((error as NodeJS.ErrnoException).code ?? '');
    }
  };
  for (const entry of readdirSync('/proc')) if (/^\d+$/.test(entry)) add(`/proc/${entry}/ns/net`);
  add('/proc/thread-self/ns/net');
  try {
    for (const name of readdirSync('/run/netns')) add(join('/run/netns', name));
  } catch {
    // None was ever made.
  }
  return hidden ? undefined : live;
}

/** New pins that are this file's for sure, or whose network namespace has gone (others may run beside us). */
function orphanedPins(before: ReadonlySet<string>): string[] {
  const fresh = pins().filter((path) => !before.has(path));
  if (fresh.length === 0) return [];
  const live = liveNamespaces();
  return fresh.filter((path) => {
    const [, inode] = /^sluice[^/]*\/(\d+)-\d+(?:\/|$)/.exec(path) ?? [];
    const [, pid] = /^sluice-test-(\d+)(?:[-/]|$)/.exec(path) ?? [];
    return (inode !== undefined && live?.has(inode) === false) || pid === String(process.pid);
  });
}

const openBefore = descriptors();
const pinnedBefore = new Set(pins());

function leaks(): string[] {
  const found: string[] = [];
  for (const [key, fd] of descriptors()) if (!openBefore.has(key)) found.push(describe(key, fd));
  const held = loadedAddon()?.holdings();
  if (held !== undefined && held.mappings > 0) found.push(`${held.mappings} mappings of kernel memory`);
  if (held !== undefined && held.watches > 0) found.push(`${held.watches} watches of descriptors`);
  for (const path of orphanedPins(pinnedBefore)) found.push(`pin ${join(PINS, path)}`);
  return found;
}

afterAll(async () => {
  const end = performance.now() + PATIENCE_MS;
  let found = leaks();
  while (found.length > 0 && performance.now() < end) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    found = leaks();
  }
  if (found.length > 0) throw new Error(`the test file leaks:\n  ${found.join('\n  ')}`);
});
