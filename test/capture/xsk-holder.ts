/** Holds an AF_XDP socket until it is killed: `INDEX PIN`; says how many frames it has taken. */
import { AfXdpSource } from '../../src/capture/afxdp.ts';
import { BpfMap, XdpSocket } from '../../src/kernel/index.ts';

const [index = '', pin = ''] = process.argv.slice(2);
const socket = XdpSocket.open({ ifindex: Number(index), queue: 0, bytes: 1 << 20 });
const source = new AfXdpSource([socket], 'held', { map: BpfMap.openPinned(pin) });
const say = (): void => void process.stdout.write(`${source.packets}\n`);
source.onReadable(() => {
  const before = source.packets;
  source.drain(() => {}, 1000);
  if (source.packets !== before) say();
});
say();
