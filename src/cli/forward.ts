import { connect, createServer, type Server } from 'node:net';
import { pipeline } from 'node:stream';
import { SluiceError } from '../base/errors.ts';

const MAX_CONNECTIONS = 512;

/**
 * Takes TCP connections and hands them on to a Unix socket: what listens in another network namespace is reached from here so.
 * @throws SluiceError ADDRESS_IN_USE, KERNEL_CALL
 */
export async function forward(
  from: { host: string; port: number },
  socket: string,
): Promise<AsyncDisposable & { port: number }> {
  const server: Server = createServer((near) => {
    const far = connect(socket);
    // What breaks on one side ends the other; what one side has said to its end is handed on whole.
    pipeline(near, far, () => {});
    pipeline(far, near, () => {});
  });
  server.maxConnections = MAX_CONNECTIONS;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const where = `${from.host}, port ${from.port}`;
      reject(
        cause.code === 'EADDRINUSE'
          ? new SluiceError('ADDRESS_IN_USE', `another program listens on ${where}`, {
              cause,
              help: 'choose another --api',
            })
          : new SluiceError('KERNEL_CALL', `${where} cannot be listened on`, { cause }),
      );
    });
    server.listen(from.port, from.host, resolve);
  });
  const at = server.address();
  return {
    port: at === null || typeof at === 'string' ? from.port : at.port,
    [Symbol.asyncDispose]: async () => {
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}
