import { z } from 'zod';
import { apiKeys } from './config/api.ts';
import { connectionsKeys } from './config/connections.ts';
import { fleetKeys } from './config/fleet.ts';
import { controlKeys, gateKeys } from './config/gate.ts';
import { liveLogsKeys, logsKeys } from './config/logs.ts';
import { mitigationKeys } from './config/mitigation.ts';
import { natsKeys } from './config/nats.ts';
import { outputKeys } from './config/output.ts';
import { policiesKeys } from './config/policies.ts';
import { samplesKeys } from './config/samples.ts';
import { sourceKeys } from './config/source.ts';
import { tunnelPortList } from './config/values.ts';
import { flag, key } from './options.ts';

export { xdpMode } from './config/gate.ts';

/**
 * Every option of Sluice, declared once, by groups (config/). Types, defaults, flags, `sluice.yaml`, `sluice config` and
 * docs/configuration.md come from here. A key `logDir` is `--log-dir` as a flag and `log-dir` in the file.
 */

export const outputSchema = z.object({ ...outputKeys });
/** Of what talks to a fleet. */
export const natsSchema = z.object({ ...natsKeys, ...outputKeys });
export const readSchema = z.object({ ...connectionsKeys, ...policiesKeys, ...logsKeys, ...outputKeys });
export const runSchema = z.object({
  ...sourceKeys,
  ...policiesKeys,
  ...gateKeys,
  ...controlKeys,
  ...mitigationKeys,
  ...samplesKeys,
  ...fleetKeys,
  ...natsKeys,
  ...connectionsKeys,
  ...logsKeys,
  ...liveLogsKeys,
  ...apiKeys,
  ...outputKeys,
});

/** Of attacks in files, and of a detector of a fleet. */
export const detectSchema = z.object({ logDir: logsKeys.logDir, ...natsKeys, ...outputKeys });

/** Of a fanout program for other sensors, which has no run around it. */
export const fanoutPinSchema = outputSchema.extend({
  fanoutKey: key(z.enum(['flow', 'pair']).default('flow'), {
    group: 'Flows',
    arg: 'KEY',
    help: 'What goes to one ring: all of a flow (addresses and ports), or all between two addresses.',
  }),
  fanoutInner: flag(false, {
    group: 'Flows',
    help: 'Share out tunnelled packets by the flow inside (VXLAN, GENEVE, GRE, ERSPAN, IP in IP, GTP-U).',
  }),
  tunnelPorts: key(
    tunnelPortList(),
    {
      group: 'Flows',
      arg: 'KIND=PORT,…',
      help: 'With --fanout-inner, UDP ports of VXLAN and GENEVE tunnels, for instance vxlan=4789,vxlan=8472; of a kind that is not named there are none.',
    },
    'list',
  ),
  vlanKey: flag(false, {
    group: 'Flows',
    help: 'Flows of different VLANs are different, also with the same addresses and ports.',
  }),
});

export type DetectConfig = z.output<typeof detectSchema>;
export type OutputConfig = z.output<typeof outputSchema>;
/** What `sluice read` runs with; durations in seconds, sizes in bytes. */
export type ReadConfig = z.output<typeof readSchema>;
/** What `sluice run` runs with; durations in seconds, sizes in bytes. */
export type RunConfig = z.output<typeof runSchema>;
