import { chmodSync, lstatSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import swagger from '@fastify/swagger';
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import type { z } from 'zod';
import { SluiceError } from '../base/errors.ts';
import type { LiveRun } from '../sensor/live.ts';
import {
  type ApiOptions,
  checkAccess,
  isLocalHost,
  listenOf,
  readSecret,
  readToken,
  tokenCheck,
} from './access.ts';
import { BoardMaker } from './board.ts';
import { addBoardRoutes } from './board-routes.ts';
import { EventFeed } from './events.ts';
import { fleetOf, fleetShape } from './fleet.ts';
import { Metrics } from './metrics.ts';
import { addPages, readPages } from './pages.ts';
import { workerCpu } from './point.ts';
import { Sampler } from './sampler.ts';
import { schemaOf } from './schema.ts';
import {
  healthShape,
  lossesShape,
  policiesShape,
  readyShape,
  type Status,
  sourcesShape,
  statusOf,
  statusShape,
} from './shapes.ts';
import { Stream } from './stream.ts';
import { addStream } from './stream-route.ts';

/** Connections at once; more are turned away by the kernel's queue. */
const MAX_CONNECTIONS = 512;
const TIMEOUT_MS = 10_000;
const MAX_HEADER_BYTES = 8192;
/** However often it is asked, numbers are read so often at most. */
const FRESH_MS = 50;

/** The HTTP API of a run: its page, numbers to read and a stream of them; of all there is, rules alone can be switched. */
export class ApiServer implements AsyncDisposable {
  readonly #app: FastifyInstance;
  readonly #stream: Stream;
  readonly #sampler: Sampler;
  readonly #events: EventFeed;
  readonly #metrics: Metrics;
  readonly #unix: string | undefined;
  /** Where it can be reached. */
  readonly url: string;

  private constructor(
    app: FastifyInstance,
    stream: Stream,
    sampler: Sampler,
    events: EventFeed,
    metrics: Metrics,
    unix: string | undefined,
    url: string,
  ) {
    this.#app = app;
    this.#stream = stream;
    this.#sampler = sampler;
    this.#events = events;
    this.#metrics = metrics;
    this.#unix = unix;
    this.url = url;
  }

  /** @throws SluiceError USAGE, FILE, ADDRESS_IN_USE, ADDRESS_UNKNOWN, PRIVILEGE, KERNEL_CALL */
  static async open(run: LiveRun, version: string, options: ApiOptions): Promise<ApiServer> {
    const listen = listenOf(options.listen);
    checkAccess(options, listen);
    const https = tlsOf(options);
    const app = fastify({
      logger: false,
      bodyLimit: 1024,
      requestTimeout: TIMEOUT_MS,
      forceCloseConnections: true,
      http: { maxHeaderSize: MAX_HEADER_BYTES, headersTimeout: TIMEOUT_MS },
      ...(https === undefined ? {} : { https: { ...https, maxHeaderSize: MAX_HEADER_BYTES } }),
    }) as unknown as FastifyInstance;
    app.server.maxConnections = MAX_CONNECTIONS;
    let cached: { at: number; status: Status } | undefined;
    const status = (): Status => {
      const now = performance.now();
      if (cached === undefined || now - cached.at > FRESH_MS)
        cached = { at: now, status: statusOf(run, run.snapshot(), version) };
      return cached.status;
    };
    const stream = new Stream();
    const sampler = new Sampler(() => ({
      status: statusOf(run, run.snapshot(), version),
      cpu: workerCpu(run.sources()),
    }));
    const events = new EventFeed(run, (topic, data) => stream.publish(topic, data));
    stream.onWanted = (topics) => events.want(topics);
    sampler.onTick = (tick) => {
      stream.send(tick);
      events.look();
    };
    const metrics = new Metrics(run, version);
    const pages = readPages();
    const { maySwitch } = guard(app, options, new Set(pages.keys()));
    await app.register(swagger, {
      openapi: {
        openapi: '3.0.3',
        info: { title: 'Sluice', version, description: 'What a run of Sluice sees, drops and loses.' },
      },
    });
    // Behind the document's own hook, so that it sees these.
    await app.register(async (routes) => {
      addRoutes(routes, run, status, metrics);
      addStream(routes, stream, sampler, events);
      const board = new BoardMaker(run, status, sampler);
      addBoardRoutes(routes, { run, version, board, sampler, maySwitch });
      addPages(routes, pages);
    });
    try {
      await app.ready();
      if ('path' in listen) await clearSocket(listen.path);
      await app.listen(listen);
      if ('path' in listen) chmodSync(listen.path, 0o600);
    } catch (error) {
      await app.close();
      sampler.close();
      metrics.close();
      throw listenError(options.listen, error);
    }
    const at = app.server.address();
    const scheme = https === undefined ? 'http' : 'https';
    const url =
      at === null || typeof at === 'string'
        ? options.listen
        : `${scheme}://${at.family === 'IPv6' ? `[${at.address}]` : at.address}:${at.port}`;
    return new ApiServer(
      app,
      stream,
      sampler,
      events,
      metrics,
      'path' in listen ? listen.path : undefined,
      url,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#sampler.close();
    this.#events.close();
    await this.#stream.close(this.#sampler.take());
    await this.#app.close();
    this.#metrics.close();
    if (this.#unix !== undefined) rmSync(this.#unix, { force: true });
  }
}

function addRoutes(app: FastifyInstance, run: LiveRun, status: () => Status, metrics: Metrics): void {
  const get = (
    url: string,
    summary: string,
    shape: z.ZodType,
    answer: (reply: FastifyReply) => unknown,
  ): void => {
    app.get(
      url,
      { schema: { summary, response: { 200: schemaOf(shape), 503: schemaOf(shape) } } },
      async (_, reply) => answer(reply),
    );
  };
  get('/health', 'Whether every worker makes progress: 200, or 503.', healthShape, (reply) => {
    const healthy = run.healthy();
    reply.code(healthy ? 200 : 503);
    return { healthy };
  });
  get('/ready', 'Whether packets are captured: 200, or 503.', readyShape, (reply) => {
    const ready = run.ready();
    reply.code(ready ? 200 : 503);
    return { ready };
  });
  get('/v1/status', 'Totals since the start, with the ledger of the gate.', statusShape, status);
  get('/v1/sources', 'Where packets come from, and how far each worker has come.', sourcesShape, () =>
    run.sources(),
  );
  get('/v1/losses', 'What became of packets from the card to the logs.', lossesShape, () => run.losses());
  get('/v1/fleet', 'Signed rules that gates follow, by interface.', fleetShape, () => fleetOf(run));
  get('/v1/policies', 'What each policy did.', policiesShape, () => run.snapshot().policies);
  app.get(
    '/metrics',
    { schema: { summary: 'Metrics for Prometheus (docs/metrics.md).' } },
    async (_, reply) => {
      reply.header('content-type', metrics.contentType);
      return await metrics.text();
    },
  );
  app.get('/openapi.json', { schema: { hide: true } }, async () => app.swagger());
}

const refuse = (reply: FastifyReply, code: number, message: string): FastifyReply =>
  reply.code(code).send({ error: { code: 'DENIED', message } });

/** `pages`: paths without a number on them. */
function guard(
  app: FastifyInstance,
  options: ApiOptions,
  pages: ReadonlySet<string>,
): { maySwitch: ((request: FastifyRequest) => boolean) | undefined } {
  const { tokenFile, controlTokenFile, tlsClientCa } = options;
  const mayRead = tokenFile === undefined ? undefined : tokenCheck(readToken(tokenFile));
  const mayControl = controlTokenFile === undefined ? undefined : tokenCheck(readToken(controlTokenFile));
  const local = mayRead === undefined && tlsClientCa === undefined;
  app.addHook('onRequest', async (request, reply) => {
    reply.header('cache-control', 'no-store').header('x-content-type-options', 'nosniff');
    if (local && !isLocalHost(request.headers.host))
      return refuse(reply, 403, 'the API answers to this host by its own name only');
    // A load balancer has no token.
    const { url } = request;
    if (mayRead === undefined || url === '/health' || url === '/ready') return undefined;
    // A browser asks for the page before anybody can type a token into it.
    if (request.method === 'GET' && pages.has(request.routeOptions.url ?? '')) return undefined;
    const { authorization } = request.headers;
    if (mayRead(authorization) || mayControl?.(authorization) === true) return undefined;
    reply.header('www-authenticate', 'Bearer');
    return refuse(reply, 401, 'a token is needed: Authorization: Bearer TOKEN');
  });
  app.setNotFoundHandler((_, reply) =>
    reply.code(404).send({ error: { code: 'NOT_FOUND', message: '/openapi.json says what there is' } }),
  );
  app.setErrorHandler((error: { statusCode?: number }, _, reply) => {
    const code = error.statusCode ?? 500;
    const message = code < 500 ? 'the request is not valid' : 'a defect in Sluice';
    return reply.code(code).send({ error: { code: code < 500 ? 'USAGE' : 'INTERNAL', message } });
  });
  return {
    maySwitch: mayControl === undefined ? undefined : (request) => mayControl(request.headers.authorization),
  };
}

function tlsOf({ tlsCert, tlsKey, tlsClientCa }: ApiOptions): object | undefined {
  if (tlsCert === undefined || tlsKey === undefined) return undefined;
  return {
    cert: readSecret(tlsCert, 'the certificate of the API'),
    key: readSecret(tlsKey, 'the key of the API'),
    minVersion: 'TLSv1.2',
    ...(tlsClientCa === undefined
      ? {}
      : { ca: readSecret(tlsClientCa, 'the CA of clients'), requestCert: true, rejectUnauthorized: true }),
  };
}

/** Removes a socket that nobody listens on any more. */
async function clearSocket(path: string): Promise<void> {
  const answered = await new Promise<boolean>((resolve) => {
    const probe = connect(path, () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', (error: NodeJS.ErrnoException) => {
      // A file that is none refuses as well.
      if (error.code === 'ECONNREFUSED' && lstatSync(path).isSocket()) rmSync(path, { force: true });
      resolve(false);
    });
  });
  if (answered) throw Object.assign(new Error('in use'), { code: 'EADDRINUSE' });
}

function listenError(where: string, error: unknown): SluiceError {
  if (error instanceof SluiceError) return error;
  const cause = error instanceof Error ? error : new Error(String(error));
  const code = (error as NodeJS.ErrnoException).code;
  if (code === 'EADDRINUSE')
    return new SluiceError('ADDRESS_IN_USE', `another program listens on ${where}`, {
      cause,
      help: 'choose another --api',
    });
  if (code === 'EADDRNOTAVAIL')
    return new SluiceError('ADDRESS_UNKNOWN', `this host has no address ${where}`, {
      cause,
      help: 'ip address lists them',
    });
  if (code === 'EACCES')
    return new SluiceError('PRIVILEGE', `this process may not listen on ${where}`, {
      cause,
      help: 'choose a port from 1024 on, or another path',
    });
  return new SluiceError('KERNEL_CALL', `the API cannot listen on ${where}`, { cause });
}
