import { expect, it } from 'vitest';
import { sumResults } from '../../src/detect/results.ts';
import type { EdgeResult } from '../../src/fleet/nats-desk.ts';

const edge = (
  state: EdgeResult['rules'][number]['state'],
  matched: number,
  dropped: number,
  id = 'auto-x-1',
): EdgeResult => ({
  node: 'a',
  interface: 'eth0',
  site: null,
  roles: [],
  seen: null,
  ts: 1,
  rules: [
    {
      id,
      revision: 1,
      state,
      why: null,
      matched: { pkts: matched, bytes: 0 },
      dropped: { pkts: dropped, bytes: 0 },
    },
  ],
  refused: [],
  programs: null,
});

it('what edges have told of a rule is summed up', () => {
  const edges = [
    edge('in force', 10, 9),
    edge('in force', 5, 5),
    edge('refused', 0, 0),
    edge('in force', 7, 7, 'other'),
  ];
  expect(sumResults(edges, ['auto-x-1', 'auto-y-1'])).toEqual([
    { id: 'auto-x-1', edges: 2, refused: 1, matched: 15, dropped: 14 },
    { id: 'auto-y-1', edges: 0, refused: 0, matched: 0, dropped: 0 },
  ]);
});
