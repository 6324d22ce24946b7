/** Zeek's TSV as it is read: the heading says how. */
export class TsvHeading {
  separator = '\t';
  unset = '-';
  fields: readonly string[] = [];
  /** Names as they stand in the heading. */
  #at = new Map<string, number>();

  /** A line that begins with #; true when it named fields or types, to which more can be added. */
  take(line: string): 'fields' | 'types' | undefined {
    if (line.startsWith('#separator ')) {
      this.separator = line
        .slice('#separator '.length)
        .replace(/\\x([0-9a-fA-F]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
      return undefined;
    }
    const [name, ...values] = line.split(this.separator);
    if (name === '#unset_field') this.unset = values[0] ?? '-';
    if (name === '#types') return 'types';
    if (name !== '#fields') return undefined;
    this.fields = values;
    this.#at = new Map(values.map((field, i) => [field, i]));
    return 'fields';
  }

  has(field: string): boolean {
    return this.#at.has(field);
  }

  /** The values of a line by name; undefined when it has not as many as there are fields. */
  values(line: string): ((field: string) => string | undefined) | undefined {
    const parts = line.split(this.separator);
    if (parts.length !== this.fields.length || parts.length === 0) return undefined;
    return (field) => {
      const at = this.#at.get(field);
      const value = at === undefined ? undefined : parts[at];
      return value === this.unset ? undefined : value;
    };
  }
}
