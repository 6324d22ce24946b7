import { isIP, isIPv4 } from 'node:net';
import { z } from 'zod';
import { asSluiceError } from './errors.ts';
import { parseBytes, parseDuration } from './units.ts';

/** The building blocks that the groups of src/base/config/ declare their keys from. */

export type OptionKind = 'switch' | 'list' | 'value';
export type OptionUnit = 'bytes' | 'duration' | 'none';

export interface OptionAbout {
  /** One sentence for --help and docs/configuration.md. */
  help: string;
  group: string;
  /** Short flag, such as -i. */
  short?: string;
  /** Placeholder of the argument in --help. */
  arg?: string;
  /** What --no-KEY does, of a switch that is on unless told. */
  off?: string;
  /** What the default is, where the schema alone does not say it. */
  otherwise?: string;
}

export interface OptionMeta extends OptionAbout {
  kind: OptionKind;
  unit: OptionUnit;
}

/** What is known of each key beside its type; asked with the key's schema. */
export const optionMeta = z.registry<OptionMeta>();

/** Turns a parser that throws SluiceError into one that zod collects the problems of. */
function checked<In, Out>(parse: (value: In) => Out): (value: In, ctx: z.RefinementCtx) => Out {
  return (value, ctx) => {
    try {
      return parse(value);
    } catch (thrown) {
      const error = asSluiceError(thrown);
      ctx.addIssue({
        code: 'custom',
        message: error.help === undefined ? error.message : `${error.message} (${error.help})`,
      });
      return z.NEVER;
    }
  };
}

const numberOrText = z.union([z.string(), z.number()], { error: 'must be a number or a text with a unit' });

function within<T extends z.ZodType<number>>(
  schema: T,
  min: number,
  max: number,
  show: (n: number) => string,
): z.ZodType<number, z.input<T>> {
  return schema.refine((n) => n >= min && n <= max, {
    error: `must be from ${show(min)} to ${show(max)}`,
  }) as unknown as z.ZodType<number, z.input<T>>;
}

/** Seconds; written with a unit. */
export const duration = (min: number, max: number, show: (n: number) => string) =>
  within(numberOrText.transform(checked(parseDuration)), min, max, show);

/** Seconds, or 'off'. */
export const durationOrOff = (min: number, max: number, show: (n: number) => string) =>
  numberOrText
    .transform(checked((value): number | 'off' => (value === 'off' ? value : parseDuration(value))))
    .refine((n) => n === 'off' || (n >= min && n <= max), {
      error: `must be from ${show(min)} to ${show(max)}, or off`,
    });

/** Bytes; written with a unit. */
export const bytes = (min: number, max: number, show: (n: number) => string) =>
  within(numberOrText.transform(checked(parseBytes)), min, max, show);

/** A whole number; a flag brings it as text. */
export const count = (min: number, max: number) =>
  within(
    z
      .union([z.number().int(), z.string().regex(/^\d{1,12}$/, { error: 'must be a whole number' })], {
        error: 'must be a whole number',
      })
      .transform(Number),
    min,
    max,
    String,
  );

/** Values between commas, or a list of such. */
export const list = <T extends z.ZodType<string, string>>(element: T) =>
  z
    .union([z.string(), z.array(z.string())], { error: 'must be a list' })
    .transform((value) =>
      (Array.isArray(value) ? value : [value]).flatMap((text) => text.split(',')).map((text) => text.trim()),
    )
    .pipe(z.array(element).max(1024));

/** A list of values that commas may be a part of: the flag is repeated. */
export const texts = z
  .union([z.string(), z.array(z.string())], { error: 'must be a list' })
  .transform((value) => (Array.isArray(value) ? value : [value]))
  .pipe(z.array(z.string().min(1).max(256)).max(1024));

export const interfaceName = z
  .string()
  .regex(/^[^\s/:]{1,15}$/, { error: 'must be the name of a network interface (1 to 15 characters)' });

/** A mirror that is listened to; what stands behind the scheme is parsed where it is used. */
export const mirrorSource = z.string().regex(/^udp:\S{1,255}$/, {
  error:
    'must be a mirror over UDP, for instance udp://0.0.0.0:4789?encap=vxlan (interfaces are named with -i)',
});

/** A kind of tunnel and one of its UDP ports. */
export const tunnelPort = z.string().refine(
  (text) => {
    const match = /^(?:vxlan|geneve)=(\d{1,5})$/.exec(text);
    return match !== null && Number(match[1]) > 0 && Number(match[1]) < 65_536;
  },
  { error: 'must be vxlan=PORT or geneve=PORT, for instance vxlan=8472' },
);

/** A file's path. */
export const filePath = z.string().min(1).max(4096);

export const policyText = z.string().regex(/^[a-z][a-z0-9-]*(=[^=\s]+)?$/, {
  error: 'must look like NAME or NAME=ARGUMENT, for instance bulk=1MB',
});

/** CPUs that workers run on: `off`, `auto`, or a list such as 2-5,8. */
export const cpuChoice = z.string().regex(/^(off|auto|\d{1,4}(-\d{1,4})?(,\d{1,4}(-\d{1,4})?)*)$/, {
  error: 'must be off, auto or a list of CPUs, for instance 2-5,8',
});

/** Bytes of a frame; 'off' for all of it, 'auto' for as much as somebody looks at. */
export const snapLength = (min: number, max: number) =>
  z
    .union([z.enum(['off', 'auto']), count(min, max)], { error: 'must be a number of bytes, auto or off' })
    .refine((n) => typeof n === 'string' || (n >= min && n <= max), {
      error: `must be from ${min} to ${max}, auto or off`,
    });

/** An address with a prefix length: 192.0.2.0/24, 2001:db8::/32. */
export const network = z.string().refine(
  (text) => {
    const match = /^([0-9a-fA-F.:]{2,45})\/(\d{1,3})$/.exec(text);
    if (match === null || isIP(match[1]) === 0) return false;
    return Number(match[2]) <= (isIPv4(match[1]) ? 32 : 128);
  },
  { error: 'must be an address with a prefix length, for instance 192.0.2.0/24' },
);

/** Registers what is known of a key; the last step of its declaration, as every change makes a new schema. */
export function key<S extends z.ZodType>(
  schema: S,
  about: OptionAbout,
  kind: OptionKind = 'value',
  unit: OptionUnit = 'none',
): S {
  optionMeta.add(schema, { ...about, kind, unit });
  return schema;
}

export const flag = (preset: boolean, about: OptionAbout) =>
  key(z.boolean({ error: 'must be true or false' }).default(preset), about, 'switch');
