import { conversation } from '../../src/packet/conversation.ts';

/** A download of 120 kB from a port to `client`, in two halves; the second has nothing that ends it. */
export function halves(port: number, client: string): readonly [Uint8Array[], Uint8Array[]] {
  const frames = conversation({
    client: { address: client, port },
    server: { address: '10.2.0.1', port },
    mss: 1400,
    turns: [
      { from: 'client', data: 100 },
      { from: 'server', data: 120_000 },
    ],
    close: 'none',
    start: 1_700_000_000,
    gap: 0.001,
  }).map(({ bytes }) => bytes);
  const middle = Math.floor(frames.length / 2);
  return [frames.slice(0, middle), frames.slice(middle)];
}
