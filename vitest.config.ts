import { defineConfig } from 'vitest/config';

const shared = {
  pool: 'forks' as const,
  // A child per file: descriptors, mappings and links that a file leaks are its own, and are checked when it ends.
  isolate: true,
  setupFiles: ['test/support/leaks.ts'],
  // Far more than any wait inside of a test: what does not come true is named by the wait that gives up.
  testTimeout: 300_000,
  hookTimeout: 300_000,
};

export default defineConfig({
  test: {
    maxWorkers: 2,
    reporters: ['default', './test/support/reporter.ts'],
    projects: [
      {
        test: {
          ...shared,
          name: 'short',
          include: ['test/**/*.test.ts'],
          exclude: ['test/long/**', 'test/sensor/**', 'test/lab/**'],
        },
      },
      {
        // What runs a whole network with sensors has the machine to itself: one file at a time, after the others.
        test: {
          ...shared,
          name: 'network',
          include: ['test/sensor/**/*.test.ts', 'test/lab/**/*.test.ts'],
          maxWorkers: 1,
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: {
          ...shared,
          name: 'long',
          include: ['test/long/**/*.test.ts'],
          testTimeout: 900_000,
        },
      },
    ],
  },
});
