import { jetstreamManager } from '@nats-io/jetstream';
import type { NatsConnection } from '@nats-io/transport-node';

/**
 * The keys of a bucket that match, with those that were deleted. Not by KV.keys(), which ends when the server says that nothing is
 * pending: nats-server 2.9 miscounts that for good where somebody writes just when a consumer is made. @throws Error
 */
export async function keysOf(connection: NatsConnection, bucket: string, filter = '>'): Promise<string[]> {
  const manager = await jetstreamManager(connection, { checkAPI: false });
  const prefix = `$KV.${bucket}.`;
  const { state } = await manager.streams.info(`KV_${bucket}`, { subjects_filter: prefix + filter });
  return Object.keys(state.subjects ?? {}).map((subject) => subject.slice(prefix.length));
}
