import { spawnSync } from 'node:child_process';
import { setTimeout as pause } from 'node:timers/promises';
import { SluiceError } from '../src/base/errors.ts';

export function ip(...args: string[]): string {
  const { status, stdout, stderr } = spawnSync('ip', args, { encoding: 'utf8' });
  if (status !== 0) throw new SluiceError('LAB', `ip ${args.join(' ')}: ${stderr}`);
  return stdout;
}

/** A pair of interfaces, both up: the kernel starts their queues up to a second later, and drops what is sent before. */
export async function cable(): Promise<{ near: string; far: string }> {
  const [near, far] = ['bpr0', 'bpr1'];
  ip('link', 'add', near, 'type', 'veth', 'peer', 'name', far);
  for (const name of [near, far]) {
    ip('link', 'set', name, 'addrgenmode', 'none');
    ip('link', 'set', name, 'up');
  }
  const waits = (name: string) => !/ state UP /.test(ip('-o', 'link', 'show', name));
  for (let i = 0; i < 500 && [near, far].some(waits); i++) await pause(10);
  return { near, far };
}
