import { filePath, key, list, policyText } from '../options.ts';

/** What is shunted. */
export const policiesKeys = {
  policy: key(
    list(policyText).prefault(['tls', 'quic', 'bulk=1MB']),
    {
      group: 'Policies',
      arg: 'NAME[=ARG],…',
      help: 'What is shunted: tls, quic, ssh, vpn, bulk=SIZE, depth=SIZE, elephant=RATE, streaming, unknown, opaque, backup, none; `sluice policy presets` explains them.',
    },
    'list',
  ),
  policyFile: key(
    list(filePath).prefault([]),
    {
      group: 'Policies',
      arg: 'FILE,…',
      help: 'Policies of your own (docs/policies.md); they come before those of --policy. SIGUSR2 reads them anew.',
      otherwise: 'none',
    },
    'list',
  ),
  geo: key(
    list(filePath).prefault([]),
    {
      group: 'Policies',
      arg: 'FILE,…',
      help: "Databases in MaxMind's format (MMDB) for orig.country, resp.country, orig.asn and resp.asn.",
      otherwise: 'none',
    },
    'list',
  ),
};
