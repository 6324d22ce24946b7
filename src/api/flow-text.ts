import { SluiceError } from '../base/errors.ts';
import { type FlowName, parseFlow, protocolNumber } from '../gate/flow-key.ts';
import { ipBytes } from '../packet/address.ts';

const SEPARATORS = /[\s,;|]+|<?[-=]>|→|↔/;
/** Ids with their names: `vlan 100`, `vlan=100.200`, `vni 5000`, `geneve-vni:7`. */
const TAG =
  /(?<=^|[\s,;|])(vlan|vni|vxlan|vxlan-vni|geneve|geneve-vni)\s*[\s=:]\s*(\d{1,8})(?:\.(\d{1,4}))?(?=$|[\s,;|])/gi;
const MOST_VLAN = 4094;
const MOST_VNI = 0xff_ffff;

type Tags = Pick<FlowName, 'vlan' | 'innerVlan' | 'vni' | 'geneveVni'>;

/**
 * A flow as people paste it: `tcp 10.0.0.1:443 10.0.0.2:51000`, `10.0.0.1 443 10.0.0.2 51000 tcp`, with arrows or commas
 * between; without a protocol it is TCP. Behind or before it ids of VLANs and tunnels: `vlan 100`, `vlan 100.200`, `vni 5000`,
 * `geneve-vni 5000`.
 * @throws SluiceError USAGE
 */
export function flowOfText(text: string): FlowName {
  const { rest, tags } = tagsOf(text);
  const words = rest.split(SEPARATORS).filter((word) => word !== '');
  const place = words.findIndex((word) => /^[a-z]/i.test(word) && !isAddress(word));
  const [proto = 'tcp'] = place < 0 ? [] : words.splice(place, 1);
  if (protocolNumber(proto.toLowerCase()) === undefined) throw usage(text);
  const ends: string[] = [];
  for (const word of words) {
    if (/^\d{1,5}$/.test(word) && ends.length > 0) ends.push(`${ends.pop() ?? ''}:${word}`);
    else ends.push(isAddress(word) && word.includes(':') ? `[${word}]` : word);
  }
  if (ends.length !== 2) throw usage(text);
  return parseFlow(`${proto} ${ends.join(' ')}`, tags);
}

function tagsOf(text: string): { rest: string; tags: Tags } {
  const tags: Tags = { vlan: 0, innerVlan: 0, vni: 0 };
  const rest = text.replaceAll(TAG, (whole, kind: string, outer: string, inner?: string) => {
    const isVlan = kind.toLowerCase() === 'vlan';
    const id = Number(outer);
    if (
      id > (isVlan ? MOST_VLAN : MOST_VNI) ||
      Number(inner ?? 0) > MOST_VLAN ||
      (!isVlan && inner !== undefined)
    )
      throw usage(text);
    if (isVlan) [tags.vlan, tags.innerVlan] = [id, Number(inner ?? 0)];
    else if (kind.toLowerCase().startsWith('geneve')) tags.geneveVni = id;
    else tags.vni = id;
    return ' '.repeat(whole.length);
  });
  return { rest, tags };
}

const isAddress = (word: string): boolean => ipBytes(word) !== undefined;

function usage(text: string): SluiceError {
  return new SluiceError('USAGE', `'${text}' does not name a flow`, {
    help: 'write it like tcp 10.0.0.1:443 10.0.0.2:51000, with vlan 100 or vni 5000 behind it where these tell flows apart',
  });
}
