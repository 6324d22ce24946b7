import type { FastifyInstance, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { asSluiceError, SluiceError } from '../base/errors.ts';
import type { LiveRun } from '../sensor/live.ts';
import type { BoardMaker } from './board.ts';
import { boardShape, flowShape, historyShape, sessionShape, switchShape } from './board-shapes.ts';
import { flowOfText } from './flow-text.ts';
import type { Sampler } from './sampler.ts';
import { schemaOf } from './schema.ts';

/** Searches at once; each reads some megabytes of logs. */
const MOST_SEARCHES = 2;
const STATUS = { USAGE: 400, NOT_FOUND: 404, DENIED: 403, LIMIT: 503 } as const;

export interface BoardParts {
  run: LiveRun;
  version: string;
  board: BoardMaker;
  sampler: Sampler;
  /** Whether who asks may switch rules; undefined: nobody may. */
  maySwitch: ((request: FastifyRequest) => boolean) | undefined;
}

const json = (summary: string, shape: z.ZodType) => ({
  schema: { summary, response: { 200: schemaOf(shape) } },
});

/** What the dashboard asks beside the stream. */
export function addBoardRoutes(app: FastifyInstance, parts: BoardParts): void {
  const { run, board, sampler, version, maySwitch } = parts;
  app.setErrorHandler(async (thrown, _, reply) => {
    if (!(thrown instanceof SluiceError)) throw thrown;
    const { code, message, help } = asSluiceError(thrown);
    const status = code in STATUS ? STATUS[code as keyof typeof STATUS] : 500;
    return await reply.code(status).send({ error: { code, message, help } });
  });
  app.get('/v1/history', json('The last quarter of an hour, by seconds.', historyShape), async (_, reply) =>
    reply.type('application/json').send(sampler.text),
  );
  app.get(
    '/v1/board',
    json('Top flows, talkers, services, policies, rules, attacks, checks.', boardShape),
    async (_, reply) => reply.type('application/json').send(await board.text()),
  );
  app.get('/v1/session', json('What who asks may do.', sessionShape), async (asked) => ({
    version,
    switches: maySwitch === undefined ? 'no' : maySwitch(asked) ? 'yes' : 'token',
  }));
  addSearch(app, board);
  app.post(
    '/v1/rules/switch',
    {
      schema: {
        summary: 'Switches a rule on or off.',
        body: schemaOf(switchShape),
        response: { 200: schemaOf(z.object({})) },
      },
    },
    async (asked) => {
      if (maySwitch === undefined)
        throw new SluiceError('DENIED', 'rules cannot be switched through this API', {
          help: 'start the run with --api-control-token-file FILE, or use sluice rule on|off',
        });
      if (!maySwitch(asked))
        throw new SluiceError('DENIED', 'this token may read and not switch rules', {
          help: 'log in with the token of --api-control-token-file',
        });
      const { interface: name, id, on } = switchShape.parse(asked.body);
      const gate = run.gates().find((each) => each.name === name && each.hasRules);
      if (gate === undefined) throw new SluiceError('NOT_FOUND', `${name} has no rules here`);
      await gate.switchRule(id, on);
      board.expire();
      return {};
    },
  );
}

function addSearch(app: FastifyInstance, board: BoardMaker): void {
  const query = z.object({ flow: z.string().min(1).max(200) });
  let searches = 0;
  app.get(
    '/v1/flow',
    {
      schema: {
        summary:
          'Why a sensor did, or did not, see a flow: gates, workers, the ends of conn.log and shunt.log.',
        querystring: schemaOf(query),
        response: { 200: schemaOf(flowShape) },
      },
    },
    async (asked) => {
      const flow = flowOfText(query.parse(asked.query).flow);
      if (searches >= MOST_SEARCHES)
        throw new SluiceError('LIMIT', 'others search just now', { help: 'try again in a second' });
      searches++;
      try {
        return await board.look(flow);
      } finally {
        searches--;
      }
    },
  );
}
