import { SluiceError } from '../base/errors.ts';
import { type FlowName, parseFlow, protocolNumber } from '../gate/flow-key.ts';
import { ipBytes } from '../packet/address.ts';

const NO_TAGS = { vlan: 0, innerVlan: 0, vni: 0 };
const SEPARATORS = /[\s,;|]+|<?[-=]>|→|↔/;

/**
 * A flow as people paste it: `tcp 10.0.0.1:443 10.0.0.2:51000`, `10.0.0.1 443 10.0.0.2 51000 tcp`, with arrows or commas
 * between; without a protocol it is TCP.
 * @throws SluiceError USAGE
 */
export function flowOfText(text: string): FlowName {
  const words = text.split(SEPARATORS).filter((word) => word !== '');
  const place = words.findIndex((word) => /^[a-z]/i.test(word) && !isAddress(word));
  const [proto = 'tcp'] = place < 0 ? [] : words.splice(place, 1);
  if (protocolNumber(proto.toLowerCase()) === undefined) throw usage(text);
  const ends: string[] = [];
  for (const word of words) {
    if (/^\d{1,5}$/.test(word) && ends.length > 0) ends.push(`${ends.pop() ?? ''}:${word}`);
    else ends.push(isAddress(word) && word.includes(':') ? `[${word}]` : word);
  }
  if (ends.length !== 2) throw usage(text);
  return parseFlow(`${proto} ${ends.join(' ')}`, NO_TAGS);
}

const isAddress = (word: string): boolean => ipBytes(word) !== undefined;

function usage(text: string): SluiceError {
  return new SluiceError('USAGE', `'${text}' does not name a flow`, {
    help: 'write it like tcp 10.0.0.1:443 10.0.0.2:51000',
  });
}
