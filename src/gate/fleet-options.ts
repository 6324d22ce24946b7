import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { RULES_STORE, STORE_INTERFACE } from '../base/config/fleet.ts';
import { SluiceError } from '../base/errors.ts';
import { fileError } from '../base/file-error.ts';
import { keysById, readTrustedKeys, type TrustedKeys } from '../fleet/keys.ts';
import { type NatsConfig, natsAccess } from '../fleet/nats-access.ts';
import { checkSource } from '../fleet/open-source.ts';
import type { FleetOptions } from './daemon-fleet.ts';

/** What the configuration says of signed rules (src/base/config/fleet.ts). */
export interface FleetConfig extends NatsConfig {
  readonly rulesFrom?: string | undefined;
  readonly trust: readonly string[];
  readonly trustPrograms: readonly string[];
  readonly rulesStore?: string | undefined;
  readonly rulesEvery?: number | undefined;
}

/** @param flag what the files were given to @throws SluiceError USAGE, FILE, FILE_FORMAT */
export function trustedKeys(paths: readonly string[], flag = '--trust'): TrustedKeys {
  if (paths.length === 0)
    throw new SluiceError('USAGE', 'no keys are trusted: nothing would count', {
      help: '--trust FILE; sluice rule keygen makes a key',
    });
  return keysById(
    paths.flatMap((path) => {
      try {
        return readTrustedKeys(readFileSync(path, 'utf8'), path);
      } catch (cause) {
        if (cause instanceof SluiceError) throw cause;
        throw fileError(path, cause, { missing: `check the path given to ${flag}` });
      }
    }),
  );
}

/**
 * What the gate of an interface follows; undefined unless it is asked for.
 * @param among how many gates there are in the process @throws SluiceError USAGE, FILE, FILE_FORMAT
 */
export function fleetOptions(config: FleetConfig, ifname: string, among = 1): FleetOptions | undefined {
  const { rulesFrom, trust, trustPrograms, rulesStore = RULES_STORE, rulesEvery } = config;
  if (rulesFrom === undefined) return undefined;
  trustedKeys(trust);
  if (trustPrograms.length > 0) trustedKeys(trustPrograms, '--trust-programs');
  if (among > 1 && !rulesStore.includes(STORE_INTERFACE))
    throw new SluiceError('USAGE', `the rules of ${among} interfaces have no room in one --rules-store`, {
      help: `${STORE_INTERFACE} in its name stands for the interface`,
    });
  return {
    source: checkSource(rulesFrom),
    trust: trust.map((path) => resolve(path)),
    programs: trustPrograms.map((path) => resolve(path)),
    store: resolve(rulesStore.replaceAll(STORE_INTERFACE, ifname)),
    nats: natsAccess(config),
    ...(rulesEvery === undefined ? {} : { every: rulesEvery }),
  };
}
