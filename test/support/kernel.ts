/** Tests that need the running kernel: they probe first, and skip only for a reason that they name. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { type TestContext, test } from 'vitest';
import { capabilities, type Feature, packageRoot, probe, unshareNetns } from '../../src/kernel/index.ts';

/** What reporter.ts counts: why a kernel test was skipped, or undefined when it ran. */
export interface KernelMeta {
  skipped: string | undefined;
}

declare module 'vitest' {
  interface TaskMeta {
    kernel?: KernelMeta;
  }
}

/** `privilege` stands for a missing capability in SLUICE_ALLOW_SKIPS. */
type Lack = Feature | 'privilege';

function lacking(features: readonly Feature[]): { lack: Lack; reason: string } | undefined {
  const missing = Object.entries(capabilities())
    .filter(([, held]) => !held)
    .map(([name]) => name);
  if (missing.length > 0) return { lack: 'privilege', reason: `privilege: without ${missing.join(', ')}` };
  for (const feature of features) {
    const result = probe(feature);
    if (result.state === 'unsupported')
      return { lack: feature, reason: `${feature}: Linux ${result.since} has it` };
    // With every privilege at hand, an obstacle is a finding and not a reason to skip.
    if (result.state === 'inconclusive')
      throw new Error(`probe of ${feature} is inconclusive: ${result.cause}`);
  }
  return undefined;
}

/**
 * A test in the real kernel. Without privilege or one of the features it is skipped with the reason; where CI is set
 * that is a failure, unless SLUICE_ALLOW_SKIPS names what is missing (comma-separated features, or `privilege`).
 */
export function kernelTest(
  name: string,
  features: readonly Feature[],
  run: (context: TestContext) => Promise<void> | void,
  timeout?: number,
): void {
  test(name, timeout === undefined ? {} : { timeout }, async (context) => {
    const found = lacking(features);
    context.task.meta.kernel = { skipped: found?.reason };
    if (found !== undefined) {
      const allowed = (process.env['SLUICE_ALLOW_SKIPS'] ?? '').split(',').includes(found.lack);
      if (process.env['CI'] !== undefined && !allowed) {
        throw new Error(
          `a kernel test was skipped in CI (${found.reason}); SLUICE_ALLOW_SKIPS=${found.lack} allows it`,
        );
      }
      context.skip(found.reason);
    }
    await run(context);
  });
}

/** Whether this process may do what kernel tests do; for set-up outside of tests. */
export function privileged(): boolean {
  return Object.values(capabilities()).every(Boolean);
}

/** Runs a command and returns its output; throws with what it wrote when it fails. */
export function sh(command: string, ...args: string[]): string {
  const result = spawnSync(command, args, {
    encoding: 'utf8',
    env: { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin:/sbin` },
  });
  if (result.error !== undefined) throw result.error;
  if (result.status !== 0) throw new Error(`${command} ${args.join(' ')}: ${result.stderr}${result.stdout}`);
  return result.stdout;
}

export function ip(command: string): string {
  return sh('ip', ...command.split(' '));
}

/**
 * Puts this test file's thread into an anonymous network namespace, which ends with the process of the file. Without
 * privilege nothing happens: the file's kernel tests are skipped anyway.
 */
export function ownNetns(): void {
  if (!privileged()) return;
  unshareNetns();
  ip('link set lo up');
}

let pairs = 0;

/** A new pair of virtual interfaces, both up and taking frames, without IPv6 chatter; in the thread's namespace. */
export function vethPair(): { a: string; b: string; remove: () => void } {
  const a = `ta${pairs}`;
  const b = `tb${pairs}`;
  pairs++;
  ip(`link add ${a} type veth peer name ${b}`);
  for (const name of [a, b]) {
    ip(`link set ${name} addrgenmode none`);
    ip(`link set ${name} up`);
  }
  untilOperational(a, b);
  return { a, b, remove: () => void ip(`link del ${a}`) };
}

/**
 * Seconds for what takes a moment. On a machine with other work it may take a thousand times as long, and a test that fails for
 * that says nothing.
 */
export const PATIENCE = 60;

/**
 * Waits until the kernel has started the queues of interfaces that were set up: up to a second later, and what is sent before
 * is lost. Throws when they never do.
 */
export function untilOperational(...names: readonly string[]): void {
  const end = performance.now() + PATIENCE * 1000;
  while (!names.every((name) => / state UP /.test(sh('ip', '-o', 'link', 'show', name)))) {
    if (performance.now() > end) throw new Error(`not operational after ${PATIENCE} s: ${names.join(', ')}`);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
  }
}

/** A compiled object of bpf/, by its name without endings. */
export function bpfObject(name: string): string {
  return join(packageRoot(), 'build', 'bpf', `${name}.bpf.o`);
}

/** Waits until `done` is true; fails after `seconds` with `what`. */
export async function until(done: () => boolean, what: string, seconds = PATIENCE): Promise<void> {
  const end = performance.now() + seconds * 1000;
  while (!done()) {
    if (performance.now() > end) throw new Error(`after ${seconds} s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
