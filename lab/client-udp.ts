import { createSocket } from 'node:dgram';
import { block, type Context, HOST_NAME, serverAddress } from './client-context.ts';
import type { Job } from './plan.ts';
import { ports } from './wire.ts';

/** UDP ports come from here, one after the other: no two flows of a run share one (TCP's lie above). */
const FIRST_UDP_PORT = 10_000;
const UDP_PORTS = 10_000;
/** A question is asked so often, each time after this long without an answer. */
const TRIES = 10;
const SILENCE_MS = 1000;

let nextUdpPort = 0;

function udpSocket(job: Job) {
  const socket = createSocket({
    type: job.family === 4 ? 'udp4' : 'udp6',
    recvBufferSize: 4 << 20,
    sendBufferSize: 4 << 20,
  });
  socket.bind(FIRST_UDP_PORT + (nextUdpPort++ % UDP_PORTS));
  return socket;
}

/** One stream of datagrams at a steady rate. */
export function datagrams(job: Job, context: Context): Promise<void> {
  const { tally, signal } = context;
  const socket = udpSocket(job);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let timer: NodeJS.Timeout | undefined;
  const end = (error?: Error) => {
    clearInterval(timer);
    signal.removeEventListener('abort', abort);
    socket.removeAllListeners();
    socket.close();
    if (error === undefined) resolve();
    else reject(error);
  };
  const abort = () => end(new Error('stopped'));
  signal.addEventListener('abort', abort, { once: true });
  socket.on('error', end);
  let left = job.bytes;
  socket.on('message', (message) => {
    left -= message.length;
    tally.downloaded += message.length;
    timer?.refresh();
    if (left <= 0) end();
  });
  socket.once('listening', () => {
    if (job.direction === 'download') {
      // The request may be lost as well as anything that follows: then it is asked for again.
      let tries = 0;
      const ask = () => {
        if (left < job.bytes || tries++ === TRIES) {
          tally.lost += left;
          end(left === job.bytes ? new Error('nothing came of a stream') : undefined);
          return;
        }
        timer = setTimeout(ask, SILENCE_MS);
        socket.send(`send ${job.bytes} ${job.datagram} ${job.mbps}`, ports.udp, serverAddress(job));
      };
      ask();
      return;
    }
    const begin = performance.now();
    timer = setInterval(() => {
      const due = ((performance.now() - begin) * job.mbps * 1000) / 8;
      while (left > 0 && job.bytes - left < due) {
        const piece = Math.min(job.datagram, left);
        left -= piece;
        tally.uploaded += piece;
        socket.send(block, 0, piece, ports.udp, serverAddress(job));
      }
      if (left === 0) {
        clearInterval(timer);
        // Datagrams are handed over asynchronously; closing at once would drop the last.
        timer = setTimeout(() => end(), 20);
      }
    }, 4);
  });
  return promise;
}

/** One DNS question and its answer; asked again like a resolver would when nothing comes. */
export function query(job: Job, context: Context): Promise<void> {
  const socket = udpSocket(job);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const number = nextUdpPort;
  const name = Buffer.concat([
    ...`host-${number}.${HOST_NAME}`
      .split('.')
      .map((label) => Buffer.from([label.length, ...Buffer.from(label)])),
    Buffer.from([0, 0, 1, 0, 1]),
  ]);
  const header = Buffer.from([number >> 8, number & 255, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
  let tries = 0;
  let timer: NodeJS.Timeout | undefined;
  const end = (error?: Error) => {
    clearTimeout(timer);
    context.signal.removeEventListener('abort', abort);
    socket.removeAllListeners();
    socket.close();
    if (error === undefined) resolve();
    else reject(error);
  };
  const abort = () => end(new Error('stopped'));
  context.signal.addEventListener('abort', abort, { once: true });
  const ask = () => {
    if (tries++ === TRIES) end(new Error('no answer'));
    else {
      timer = setTimeout(ask, SILENCE_MS);
      socket.send(Buffer.concat([header, name]), ports.dns, serverAddress(job));
    }
  };
  socket.on('error', end);
  socket.on('message', () => end());
  socket.once('listening', ask);
  return promise;
}
