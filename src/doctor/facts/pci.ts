import type { PciFacts } from '../machine.ts';
import type { Files } from './files.ts';

const GENERATIONS = /^([\d.]+) GT\/s/;

function speed(text: string | undefined): number | undefined {
  const match = GENERATIONS.exec(text ?? '');
  return match === null ? undefined : Number(match[1]);
}

function width(text: string | undefined): number | undefined {
  const lanes = Number(text ?? '');
  // Virtual machines say 0 or 255.
  return lanes > 0 && lanes <= 32 ? lanes : undefined;
}

/** @param mbps speed of the link of a network function, where it is known */
export function pciFacts(
  files: Files,
  address: string,
  mbps: (interfaceName: string) => number | undefined,
): PciFacts | undefined {
  if (!/^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$/.test(address)) return undefined;
  const dir = `/sys/bus/pci/devices/${address}`;
  const vendor = files.text(`${dir}/vendor`);
  if (vendor === undefined) return undefined;
  const card = address.slice(0, -1);
  const node = files.number(`${dir}/numa_node`);
  return {
    address,
    vendor: vendor.replace(/^0x/, ''),
    device: (files.text(`${dir}/device`) ?? '').replace(/^0x/, ''),
    speed: speed(files.text(`${dir}/current_link_speed`)),
    width: width(files.text(`${dir}/current_link_width`)),
    maxSpeed: speed(files.text(`${dir}/max_link_speed`)),
    maxWidth: width(files.text(`${dir}/max_link_width`)),
    node: node === undefined || node < 0 ? undefined : node,
    ports: files
      .list('/sys/bus/pci/devices')
      .filter((other) => other.startsWith(card))
      .flatMap((other) => {
        const [name] = files.list(`/sys/bus/pci/devices/${other}/net`);
        return name === undefined ? [] : [{ address: other, mbps: mbps(name) }];
      }),
  };
}
