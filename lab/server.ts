// Runs inside the server's namespace: HTTPS, HTTP, plain TCP, UDP and DNS. Arguments: key file, certificate file.
// What a connection is to do at its end, the client asks for: it alone knows that everything has arrived.
import { createSocket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import { createServer as createHttp, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createHttps } from 'node:https';
import { createServer as createTcp, type Socket } from 'node:net';
import { ports } from './wire.ts';

const [keyFile = '', certificateFile = ''] = process.argv.slice(2);
const block = Buffer.alloc(65_536, 'Sluice lab. ');
/** The TCP socket under each connection, by the client's address and port: a TLS socket cannot send a reset. */
const raw = new Map<string, Socket>();
let datagrams = 0;
let datagramBytes = 0;

const ignore = () => undefined;

function remember(socket: Socket): void {
  const name = `${socket.remoteAddress} ${socket.remotePort}`;
  raw.set(name, socket);
  socket.once('close', () => raw.delete(name));
  socket.on('error', ignore);
}

/** Writes `total` bytes at the reader's pace. */
function pour(to: NodeJS.WritableStream, total: number, done: () => void): void {
  let left = total;
  const more = () => {
    while (left > 0) {
      const piece = left < block.length ? block.subarray(0, left) : block;
      left -= piece.length;
      if (!to.write(piece)) {
        to.once('drain', more);
        return;
      }
    }
    done();
  };
  more();
}

function serve(request: IncomingMessage, response: ServerResponse): void {
  const [, what = '', size = '0'] = (request.url ?? '').split('/');
  if (what === 'reset') {
    raw.get(`${request.socket.remoteAddress} ${request.socket.remotePort}`)?.resetAndDestroy();
    return;
  }
  if (what === 'bytes') {
    response.writeHead(200, { 'content-length': Number(size), 'content-type': 'application/octet-stream' });
    pour(response, Number(size), () => response.end());
    return;
  }
  let received = 0;
  request.on('data', (chunk: Buffer) => {
    received += chunk.length;
  });
  request.on('end', () => response.end(`${received}\n`));
}

/** Plain TCP: a line `download|upload BYTES end|hold`, the bytes, then a byte R from the client for a reset. */
function servePlain(socket: Socket): void {
  socket.on('error', ignore);
  socket.setNoDelay(true);
  let header = '';
  let left = -1;
  let then = '';
  const received = () => {
    if (then === 'end') socket.end('.');
    else socket.write('.');
  };
  socket.on('data', (chunk: Buffer) => {
    if (left >= 0) {
      if (left === 0 && chunk.includes('R')) socket.resetAndDestroy();
      else if (left > 0) {
        left -= chunk.length;
        if (left === 0) received();
      }
      return;
    }
    header += chunk.toString('latin1');
    const end = header.indexOf('\n');
    if (end < 0) return;
    const [direction, size, after = ''] = header.slice(0, end).split(' ');
    then = after;
    if (direction === 'upload') {
      left = Number(size) - (header.length - end - 1);
      if (left === 0) received();
      return;
    }
    left = 0;
    pour(socket, Number(size), () => {
      if (then === 'end') socket.end();
    });
  });
}

/** UDP: a request `BYTES SIZE MBPS` is answered with a paced stream; everything else is taken and counted. */
function serveDatagrams(): void {
  const socket = createSocket({ type: 'udp6', recvBufferSize: 4 << 20, sendBufferSize: 4 << 20 });
  socket.on('error', ignore);
  socket.on('message', (message, peer) => {
    datagrams++;
    datagramBytes += message.length;
    const request = /^send (\d+) (\d+) ([\d.]+)$/.exec(message.subarray(0, 64).toString('latin1'));
    if (request === null) return;
    const [bytes, size, mbps] = request.slice(1).map(Number) as [number, number, number];
    let left = bytes;
    const begin = performance.now();
    const timer = setInterval(() => {
      const due = ((performance.now() - begin) * mbps * 1000) / 8;
      while (left > 0 && bytes - left < due) {
        const piece = Math.min(size, left);
        left -= piece;
        socket.send(block, 0, piece, peer.port, peer.address, ignore);
      }
      if (left === 0) clearInterval(timer);
    }, 4);
  });
  socket.bind(ports.udp, '::');
}

/** DNS: answers any question with one address record made from the question. */
function serveDns(): void {
  const socket = createSocket({ type: 'udp6' });
  socket.on('error', ignore);
  socket.on('message', (query, peer) => {
    if (query.length < 17) return;
    const answer = Buffer.concat([
      query,
      Buffer.from([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, query[1] ?? 0]),
    ]);
    answer.writeUInt16BE(0x8180, 2);
    answer.writeUInt16BE(1, 6);
    socket.send(answer, peer.port, peer.address, ignore);
  });
  socket.bind(ports.dns, '::');
}

const secure = createHttps(
  {
    key: readFileSync(keyFile),
    cert: readFileSync(certificateFile),
    minVersion: 'TLSv1.2',
    maxVersion: 'TLSv1.3',
  },
  serve,
);
const plain = createHttp(serve);
for (const server of [secure, plain]) {
  // Connections that are left open stay open.
  server.keepAliveTimeout = 0;
  server.requestTimeout = 0;
  server.headersTimeout = 0;
  server.timeout = 0;
  server.on('connection', remember);
  server.on('clientError', ignore);
}
secure.on('tlsClientError', ignore);
// A client that resets must not take the server with it, wherever the error surfaces.
secure.on('secureConnection', (socket) => socket.on('error', ignore));

const listening = [
  [secure, ports.https],
  [plain, ports.http],
  [createTcp({ allowHalfOpen: false }, servePlain), ports.tcp],
] as const;
const ready = Promise.all(
  listening.map(
    ([server, port]) =>
      new Promise<void>((resolve) => server.listen({ port, host: '::', backlog: 1024 }, resolve)),
  ),
);
serveDatagrams();
serveDns();

process.on('message', (request: { id: number; kind: 'ready' | 'datagrams' }) => {
  void ready.then(() =>
    process.send?.({
      id: request.id,
      value: request.kind === 'ready' ? true : { datagrams, bytes: datagramBytes },
    }),
  );
});
process.on('disconnect', () => process.exit(0));
