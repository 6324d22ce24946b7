import { createServer, type Server } from 'node:http';
import { SluiceError } from '../base/errors.ts';
import { monotonicSeconds } from '../gate/clock.ts';
import { Stat } from './setup.ts';
import type { Station } from './station.ts';

/** Seconds without a finished turn after which a worker does not count as alive; it takes one ten times a second. */
const STALE_SECONDS = 5;
/** Load balancers keep a few connections open; whoever opens more is turned away. */
const MAX_CONNECTIONS = 64;
const TIMEOUT_MS = 5000;
const MAX_HEADER_BYTES = 4096;

/** Every worker has finished a turn a short while ago. */
export function isHealthy(stations: readonly Station[], now = monotonicSeconds()): boolean {
  const alive = (stats: Float64Array): boolean => now - stats[Stat.lastTurn] < STALE_SECONDS;
  return stations.length > 0 && stations.every(({ stats }) => stats.length > 0 && stats.every(alive));
}

/**
 * Answers health checks of load balancers (AWS GWLB: TCP or HTTP): 200 while `healthy` says so, 503 otherwise, whatever is
 * asked for. A check of TCP alone is answered by the port being open as long as the process lives.
 */
export class HealthPort {
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  /** Listens on all addresses. Errors: SluiceError ADDRESS_IN_USE, PRIVILEGE. */
  static async open(port: number, healthy: () => boolean): Promise<HealthPort> {
    const server = createServer(
      {
        maxHeaderSize: MAX_HEADER_BYTES,
        headersTimeout: TIMEOUT_MS,
        requestTimeout: TIMEOUT_MS,
        connectionsCheckingInterval: TIMEOUT_MS / 5,
      },
      (request, response) => {
        request.resume();
        const well = healthy();
        const text = well ? 'ok\n' : 'no progress\n';
        response.writeHead(well ? 200 : 503, {
          'content-type': 'text/plain',
          'content-length': text.length,
          'cache-control': 'no-store',
          connection: 'close',
        });
        response.end(request.method === 'HEAD' ? undefined : text);
      },
    );
    server.maxConnections = MAX_CONNECTIONS;
    server.setTimeout(TIMEOUT_MS, (socket) => socket.destroy());
    await new Promise<void>((resolve, reject) => {
      server.once('error', (cause: NodeJS.ErrnoException) => reject(listenError(port, cause)));
      server.listen(port, resolve);
    });
    server.on('error', () => {});
    return new HealthPort(server);
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}

function listenError(port: number, cause: NodeJS.ErrnoException): SluiceError {
  if (cause.code === 'EADDRINUSE')
    return new SluiceError('ADDRESS_IN_USE', `another program listens on TCP port ${port}`, {
      cause,
      help: 'choose another --health-port',
    });
  if (cause.code === 'EACCES')
    return new SluiceError('PRIVILEGE', `TCP port ${port} needs CAP_NET_BIND_SERVICE`, {
      cause,
      help: 'choose a --health-port from 1024 on',
    });
  return new SluiceError('KERNEL_CALL', `TCP port ${port} cannot be listened on`, { cause });
}
