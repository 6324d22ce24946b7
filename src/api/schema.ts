import { z } from 'zod';

/** A zod shape for Fastify and the OpenAPI document. */
export function schemaOf(shape: z.ZodType): object {
  const { $schema: _, ...schema } = z.toJSONSchema(shape, { target: 'openapi-3.0' }) as Record<
    string,
    unknown
  >;
  return schema;
}
