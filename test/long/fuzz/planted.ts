import type { Target } from './input.ts';

/** Defects that a fuzzer worth its name finds: it is tried on them before its silence is believed. */

/** Three bytes deep: without a look at the coverage it would need many millions of inputs. */
function throwing(u8: Uint8Array): void {
  if (u8[0] !== 0x7f) return;
  if (u8[1] !== 0x0a) return;
  if (u8[2] !== 0xc0) return;
  throw new Error('planted');
}

/** Looks at everything again for each byte. */
function quadratic(u8: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < u8.length; i++) for (let j = 0; j < i; j++) sum += u8[j] & 1;
  return sum;
}

const seeds = (bytes: number) => [{ port: 0, pieces: [{ from: 1 as const, bytes: new Uint8Array(bytes) }] }];

export function plantedTargets(): Target[] {
  return [
    {
      name: 'throwing',
      seeds: seeds(4),
      ports: [0],
      run: ({ pieces }) => {
        for (const { bytes } of pieces) throwing(bytes);
      },
    },
    {
      name: 'quadratic',
      seeds: seeds(400),
      ports: [0],
      run: ({ pieces }) => void quadratic(Buffer.concat(pieces.map(({ bytes }) => bytes)).subarray(0, 2000)),
    },
    {
      name: 'hoarding',
      seeds: seeds(6),
      ports: [0],
      run: () => {},
      hold: ({ pieces }) => pieces.map(() => new Uint8Array(100_000)),
    },
  ];
}
