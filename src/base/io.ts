/** What a command talks through: data to stdout, talk to stderr, and the wish to stop. */
export interface CommandIo {
  /** Data, on stdout; the caller brings the newline. Nothing more is written once the reader has gone away. */
  out(text: string): void;
  /** A line of talk on stderr, without newline. Held back by --quiet. */
  say(line: string): void;
  /** A line that only --verbose shows. */
  detail(line: string): void;
  /** A warning or notice on stderr; --quiet does not hold it back. */
  warn(line: string): void;
  /**
   * Progress: on a terminal the text replaces itself in place (several lines at most), elsewhere it is printed every few
   * seconds. --quiet holds it back. `done` ends it and leaves the terminal clean.
   */
  progress(text: string): void;
  progressDone(): void;
  /** stderr is a terminal; width in columns. */
  readonly terminal: boolean;
  readonly columns: number;
  /** Wraps text in an SGR colour when stderr shows colours. */
  paint(style: 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan', text: string): string;
  /** Aborted by the first SIGINT or SIGTERM: stop cleanly, flush, print the summary. */
  readonly stop: AbortSignal;
}
