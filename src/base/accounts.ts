import { readFileSync } from 'node:fs';
import { SluiceError } from './errors.ts';

const LARGEST = 2 ** 32 - 2;

/**
 * The number of a user or group, by name (from /etc/passwd or /etc/group) or as a number.
 * @throws SluiceError USAGE
 */
export function accountNumber(kind: 'user' | 'group', text: string): number {
  if (/^\d{1,10}$/.test(text) && Number(text) <= LARGEST) return Number(text);
  const file = kind === 'user' ? '/etc/passwd' : '/etc/group';
  for (const line of readFileSync(file, 'utf8').split('\n')) {
    const [name, , number] = line.split(':');
    if (name === text && number !== undefined) return Number(number);
  }
  throw new SluiceError('USAGE', `there is no ${kind} ${text} in ${file}`, {
    help: 'of accounts that come from elsewhere give the number (`id` prints it)',
  });
}
