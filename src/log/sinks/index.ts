import type { LogSink, SinkListener } from './sink.ts';
import type { SinkSpec } from './url.ts';

export type { LogSink, SinkListener, SinkTotals } from './sink.ts';
export { parseSink, type SinkSpec } from './url.ts';

/** Opens a sink; what it needs is loaded only then. It is there at once, whether the other end is or not. */
export async function openSink(spec: SinkSpec, told: SinkListener): Promise<LogSink> {
  switch (spec.kind) {
    case 'syslog-udp':
      return new (await import('./datagram-sink.ts')).DatagramSink(spec, told);
    case 'nats':
      return new (await import('./nats-sink.ts')).NatsSink(spec, told);
    default:
      return new (await import('./stream-sink.ts')).StreamSink(spec, told);
  }
}
