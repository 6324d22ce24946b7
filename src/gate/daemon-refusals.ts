import { type ErrorCode, SluiceError } from '../base/errors.ts';
import { errnoName } from '../kernel/index.ts';

const MAP_FULL = new Set(['E2BIG', 'ENOSPC', 'ENOMEM']);

/** What the workers of a run answer, in place of the kernel. */
const REFUSED_BY_SENSOR: Readonly<Record<string, [ErrorCode, string, { help: string }]>> = {
  EAGAIN: [
    'REFUSED',
    'the connection is not open both ways now',
    { help: 'half-open and closing ones are not shunted: ask again when both sides have been heard' },
  ],
  EBUSY: ['HELD', 'the flow is held: somebody still needs it', { help: '`sluice hold ls` says who' }],
  EACCES: [
    'REFUSED',
    'an endpoint is an address of this host, or under an exception',
    { help: '`sluice shunt exception ls` lists them' },
  ],
};

/** Neither a lease nor an idle limit. */
export function unlimited(owner: string): SluiceError {
  return new SluiceError('REFUSED', `${owner} has no lease, so each of its entries needs an idle limit`, {
    help: 'somebody has to let go of an entry some day: one of the two may be off, never both',
  });
}

/** VLAN ids for a gate that does not tell VLANs apart. */
export function noVlans(): SluiceError {
  return new SluiceError('REFUSED', 'VLAN ids are not part of the key of this gate', {
    help: 'leave them out, or start the gate with --vlan-key',
  });
}

/** Tunnel ids for a gate that does not tell them apart. */
export function noTunnelIds(): SluiceError {
  return new SluiceError('REFUSED', 'tunnel ids are not part of the key of this gate', {
    help: 'leave them out, or start the gate with --tunnels and --tunnel-key',
  });
}

/** An address of this host. */
export function ownTraffic(): SluiceError {
  return new SluiceError('REFUSED', 'an endpoint is an address of this host', {
    help: "the host's own traffic is never dropped",
  });
}

/** The answer for one of several that were asked for. */
export function failure({ code, message, help }: SluiceError): object {
  return { error: { code, message, ...(help === undefined ? {} : { help }) } };
}

/** What a negative errno of the gate means for who wants to add. */
export function addError(result: number): SluiceError {
  const name = errnoName(-result);
  if (name === 'EEXIST')
    return new SluiceError('EXISTS', 'this flow is shunted already', { help: 'sluice shunt rm ends it' });
  if (MAP_FULL.has(name))
    return new SluiceError('MAP_FULL', 'the table is full', {
      help: 'use a larger table (--max-shunts4, --max-shunts6), or let entries end sooner',
    });
  const refused = REFUSED_BY_SENSOR[name];
  if (refused !== undefined) return new SluiceError(...refused);
  return new SluiceError('KERNEL_CALL', `the gate did not take it: ${name}`);
}
