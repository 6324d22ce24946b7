import { oneOf } from './choice.ts';
import type { Service } from './service.ts';
import { looksLikeTls, TlsStream } from './tls-stream.ts';

/** TLS over TCP, SSL 3 to TLS 1.3. */
export const TLS: Service = {
  name: 'ssl',
  transport: 'tcp',
  first: oneOf(0x16),
  looksLike: looksLikeTls,
  parser: () => new TlsStream(),
};
