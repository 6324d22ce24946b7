import type { ApiOptions } from '../../api/access.ts';
import { type RunConfig, runSchema } from '../../base/config.ts';
import type { CommandIo } from '../../base/io.ts';
import type { Onlooker } from '../../sensor/live.ts';
import type { Register } from '../command.ts';
import { addFlags, configOf } from '../flags.ts';
import { version } from '../version.ts';

function apiOptions(config: RunConfig): ApiOptions | undefined {
  const { api: listen, apiTokenFile: tokenFile, apiTlsCert: tlsCert } = config;
  const { apiTlsKey: tlsKey, apiTlsClientCa: tlsClientCa, apiControlTokenFile: controlTokenFile } = config;
  return listen === undefined
    ? undefined
    : { listen, tokenFile, controlTokenFile, tlsCert, tlsKey, tlsClientCa };
}

/** What shows the run, where something is to; loaded only then, and refused before anything is made. @throws SluiceError USAGE, FILE */
async function onlookerOf(config: RunConfig, io: CommandIo): Promise<Onlooker | undefined> {
  const options = apiOptions(config);
  if (options === undefined) return undefined;
  const { checkApi } = await import('../../api/access.ts');
  checkApi(options);
  return async (run) => {
    const { ApiServer } = await import('../../api/server.ts');
    const server = await ApiServer.open(run, version(), options);
    io.say(`API: ${server.url}`);
    return server;
  };
}

/** `sluice run`: the main job, on taps, on mirrors over UDP, or in the lab. */
export const registerRun: Register = (program, host) => {
  const run = program
    .command('run')
    .argument(
      '[SOURCE...]',
      'mirrors to receive over UDP: udp://ADDRESS[:PORT][?encap=…&dlt=…&skip=N&impl=…], or as Zeek has it udp::ADDRESS:PORT:ENCAP (docs/udp.md)',
    )
    .description(
      'The main job: gate, sensor and logs, on interfaces, on mirrors that arrive over UDP, or (without either) in a test network of its own.',
    )
    .action(async (sources: string[]) => {
      if (sources.length > 0) {
        const named = run.getOptionValue('source') as string[] | undefined;
        run.setOptionValueWithSource('source', [...(named ?? []), ...sources], 'cli');
      }
      const { config } = configOf(run, runSchema);
      await host.run(config, async (io) => {
        const onlooker = await onlookerOf(config, io);
        // Loaded here and not above: other commands work where the native addon does not.
        if (config.interface.length + config.source.length > 0) {
          const { runSensor } = await import('../../sensor/run.ts');
          return await runSensor(config, io, onlooker, () => configOf(run, runSchema).config);
        }
        const { runInLab } = await import('../lab-run.ts');
        return await runInLab(config, io);
      });
    });
  addFlags(run, runSchema);
  run.addHelpText(
    'after',
    `
Examples:
  sluice run --duration 60                        the lab for a minute
  sluice run -i eth1 --tap                        a tap, until Ctrl-C
  sluice run -i eth1,eth2 --tap --policy bulk=5MB two taps, shunt only bulk
  sluice run -i eth1 --tap --capture afxdp        frames straight from behind the gate
  sluice run -i eth1 --tap --mode socket          no XDP: a filter on the sensor's own sockets
  sluice run -i eth1 --tap --no-gate              the sensor alone
  sluice run -i eth1 --tap --api 9900             the dashboard at http://127.0.0.1:9900
  sluice run udp://0.0.0.0:4789                   a mirror in VXLAN, no privileges needed
  sluice run udp://10.0.0.5:4789 --mirror-gate eth0
                                                  shunted connections are dropped before the socket
  sluice run -i eth1 --tap --mitigate              attacks are held back by rules
  sluice run -i eth1 --tap --rules-from nats+tls://nats.example --nats-creds edge.creds --trust desk.pub
                                                  a fleet's signed rules are in force
  sluice run -i eth1 --tap --tunnels vxlan,gre    connections in tunnels are shunted too
  sluice run 'udp://[::]:6081?encap=geneve' --health-port 8080
                                                  behind an AWS Gateway Load Balancer`,
  );
};
