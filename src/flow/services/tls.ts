import type { Service } from './service.ts';
import { looksLikeTls, TlsStream } from './tls-stream.ts';

/** TLS over TCP, SSL 3 to TLS 1.3. */
export const TLS: Service = {
  name: 'ssl',
  transport: 'tcp',
  looksLike: looksLikeTls,
  parser: () => new TlsStream(),
};
