import type { ComponentChildren } from 'preact';
import { count } from './format.ts';

/** A part of the page with a heading; `wide`: how many of twelve columns it takes. */
export function Panel(props: {
  title: string;
  wide: 3 | 4 | 5 | 6 | 7 | 8 | 12;
  note?: ComponentChildren;
  tools?: ComponentChildren;
  /** What it shows is too old. */
  old?: boolean;
  children: ComponentChildren;
}) {
  const id = `p-${props.title.toLowerCase().replaceAll(/[^a-z]+/g, '-')}`;
  return (
    <section class={`panel w${props.wide}${props.old === true ? ' old' : ''}`} aria-labelledby={id}>
      <header>
        <h2 id={id}>{props.title}</h2>
        {props.note !== undefined && <span class="note">{props.note}</span>}
        {props.tools}
      </header>
      {props.children}
    </section>
  );
}

/** A number with its exact value for programs. */
export function Exact({ value, name }: { value: number; name?: string }) {
  return (
    <data value={value} {...(name === undefined ? {} : { 'data-name': name })}>
      {count(value)}
    </data>
  );
}

export function Empty({ children }: { children: ComponentChildren }) {
  return <p class="empty">{children}</p>;
}

/** Some of few; like radio buttons, with arrow keys. */
export function Choice<T extends string | number>(props: {
  label: string;
  value: T;
  options: readonly { value: T; text: string }[];
  set: (value: T) => void;
}) {
  return (
    <fieldset class="choice">
      <legend class="hidden">{props.label}</legend>
      {props.options.map(({ value, text }) => (
        <label key={value} class={value === props.value ? 'on' : ''}>
          <input
            type="radio"
            name={props.label}
            checked={value === props.value}
            onChange={() => props.set(value)}
          />
          {text}
        </label>
      ))}
    </fieldset>
  );
}

/** A share as a bar; its text stands beside it. */
export function Bar({ share }: { share: number }) {
  return (
    <span class="bar" aria-hidden="true">
      <span style={{ width: `${Math.min(100, Math.max(0, 100 * share))}%` }} />
    </span>
  );
}

/**
 * A table that scrolls by itself where it is too wide; then the keyboard reaches it. Columns with a name that begins with # are
 * of numbers; those of `less` (from 1) are left out where there is little room. `fits`: cells break there, and nothing scrolls.
 */
export function Table(props: {
  label: string;
  head: readonly string[];
  less?: readonly (2 | 3 | 4 | 5 | 7 | 8)[];
  fits?: boolean;
  children: ComponentChildren;
}) {
  const classes = (props.less ?? []).map((column) => `less${column}`);
  if (props.fits === true) classes.push('fits');
  return (
    <div class="scroll" role="region" aria-label={props.label} tabIndex={0}>
      <table class={classes.join(' ')}>
        <thead>
          <tr>
            {props.head.map((name) => (
              <th key={name} scope="col" class={name.startsWith('#') ? 'n' : ''}>
                {name.replace('#', '')}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>{props.children}</tbody>
      </table>
    </div>
  );
}
