import { describe } from 'vitest';
import { corpusFrames, engineTests, lengths } from '../filter/engine-table.ts';

describe('all engines agree on every frame of the corpus', () => {
  engineTests([...corpusFrames(), ...lengths()]);
});
