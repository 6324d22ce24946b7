import { count, filePath, flag, key, texts } from '../options.ts';

/** Whether the gate of an interface takes the samples: a socket filter takes none, and without a gate the workers do. */
export const isSampledAtGate = (c: { gate?: boolean | undefined; mode?: string | undefined }): boolean =>
  c.gate !== false && c.mode !== 'socket';

/** What finds attacks, and holds them back. */
export const mitigationKeys = {
  mitigate: flag(false, {
    group: 'Mitigation',
    help: 'Find attacks in samples of what comes in, and hold them back by rules (docs/mitigation.md).',
  }),
  mitigateDryRun: flag(false, {
    group: 'Mitigation',
    help: 'The same, but rules are only told of in mitigation.log; mirrors over UDP and interfaces without a gate too.',
  }),
  minPps: key(count(1, 1e9).prefault(1000), {
    group: 'Mitigation',
    arg: 'N',
    help: 'Packets a second to one target that are never an attack.',
  }),
  sampleBudget: key(count(100, 1e6).prefault(4000), {
    group: 'Mitigation',
    arg: 'N',
    help: 'Samples a second that are looked at, at most.',
  }),
  veto: key(
    texts.prefault([]),
    {
      group: 'Mitigation',
      arg: 'WHAT',
      help: 'Never touch this: an address, a prefix, tcp/22, 192.0.2.1,tcp/22. Repeatable; the SSH connection of whoever starts it always is.',
      otherwise: 'none',
    },
    'list',
  ),
  ruleStore: key(filePath.prefault('/var/lib/sluice'), {
    group: 'Mitigation',
    arg: 'DIR',
    help: 'With --mitigate or --rules-from, where the rules of each interface are kept from one run to the next.',
  }),
};
