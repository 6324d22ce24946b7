/** A word as a POSIX shell takes it, for commands that are shown: in quotes only where it needs them. */
export function shellWord(text: string): string {
  return /^[\w./:,=@+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
