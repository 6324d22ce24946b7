import { constants } from 'node:os';
import { SluiceError } from './errors.ts';

/** What to do about it, where more is known of the file than that it is one. */
export interface FileHelp {
  /** It is not there. */
  missing?: string;
  /** It is a directory. */
  directory?: string;
}

/** What an error met in opening or reading a file means: FILE, with the way out. `name` is the file as the user knows it. */
export function fileError(name: string, cause: unknown, help: FileHelp = {}): SluiceError {
  const code = (cause as NodeJS.ErrnoException).code ?? 'unknown error';
  const error = (message: string, way: string): SluiceError =>
    new SluiceError('FILE', message, { cause, help: way });
  switch (code) {
    case 'ENOENT':
    case 'ENOTDIR':
      return error(`there is no file ${name}`, help.missing ?? 'check the path');
    case 'EACCES':
    case 'EPERM':
      return error(
        `no permission to read ${name}`,
        'give this user the right to read it, or run as a user who has it',
      );
    case 'EISDIR':
      return error(`${name} is a directory`, help.directory ?? 'name a file in it');
    case 'EMFILE':
    case 'ENFILE':
      return error(`too many open files to read ${name}`, 'raise the limit (ulimit -n)');
    default:
      return error(`${name} cannot be read: ${code}`, 'check the medium that the file lies on');
  }
}

/** What the system said of a file. Node.js has no name for some of its errors; a quota that is used up is one of these. */
export function systemText(cause: unknown): string {
  const { code, errno = 0, message } = cause as NodeJS.ErrnoException;
  if (code !== 'UNKNOWN') return message;
  const name = Object.entries(constants.errno).find(([, number]) => number === -errno)?.[0];
  if (name === undefined) return message;
  return message.replace(
    /^UNKNOWN: unknown error/,
    name === 'EDQUOT' ? 'EDQUOT: disk quota exceeded' : `${name}: unknown error`,
  );
}
