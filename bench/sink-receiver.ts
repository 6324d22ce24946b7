/** A receiver of `sluice bench sinks`, in a thread of its own: takes what comes, and keeps nothing. */
import { createSocket } from 'node:dgram';
import { createServer } from 'node:net';
import { parentPort, workerData } from 'node:worker_threads';

/** `path`: a Unix socket there; else a port of the loopback. */
export interface SinkReceiverSetup {
  kind: 'stream' | 'datagram';
  path?: string;
}

const { kind, path } = workerData as SinkReceiverSetup;
const tell = (port: number): void => parentPort?.postMessage(port);
if (kind === 'datagram') {
  const socket = createSocket({ type: 'udp4', recvBufferSize: 4 * 2 ** 20 });
  socket.bind(0, '127.0.0.1', () => tell(socket.address().port));
} else {
  const server = createServer((socket) => socket.on('error', () => {}).resume());
  if (path === undefined)
    server.listen(0, '127.0.0.1', () => tell((server.address() as { port: number }).port));
  else server.listen(path, () => tell(0));
}
