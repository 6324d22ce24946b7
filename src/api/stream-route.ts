import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { SluiceError } from '../base/errors.ts';
import { type EventFeed, TOPICS, type Topic } from './events.ts';
import type { Sampler } from './sampler.ts';
import { schemaOf } from './schema.ts';
import { tickShape } from './shapes.ts';
import type { Stream } from './stream.ts';

const TOPIC_TEXT = TOPICS.join('|');
const streamQuery = z.object({
  with: z
    .string()
    .max(100)
    .regex(new RegExp(`^(?:${TOPIC_TEXT})(?:,(?:${TOPIC_TEXT}))*$`))
    .optional()
    .describe(
      'what happens as well, separated by commas: flows (records of conn.log), shunts (of shunt.log), notices (of notice.log), attacks',
    ),
});

/** Lets who asks look on; what a line holds is in the document. */
export function addStream(app: FastifyInstance, stream: Stream, sampler: Sampler, events: EventFeed): void {
  const summary = 'Server-sent events: rates and totals once a second (tick, end), and what happens.';
  const response = { 200: { content: { 'text/event-stream': { schema: schemaOf(tickShape) } } } };
  app.get(
    '/v1/stream',
    { schema: { summary, querystring: schemaOf(streamQuery), response } },
    async (request, reply) => {
      const topics = new Set(streamQuery.parse(request.query).with?.split(',') as Topic[] | undefined);
      if (!events.hasRecords && [...topics].some((topic) => topic !== 'attacks'))
        throw new SluiceError(
          'USAGE',
          "the logs of this run are Zeek's TSV: the stream has no records of them",
          {
            help: 'with --log-format json it has; attacks it has in any case',
          },
        );
      if (stream.add(reply.raw, sampler.tick, topics, events.attacks)) return reply.hijack();
      throw new SluiceError('LIMIT', 'there are too many onlookers', { help: 'try again later' });
    },
  );
}
