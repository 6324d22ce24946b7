import { z } from 'zod';
import { key } from '../options.ts';

/** The HTTP interface of a run. */
export const apiKeys = {
  api: key(z.string().min(1).max(4096).optional(), {
    group: 'API',
    arg: 'ADDRESS:PORT',
    help: 'Answer HTTP there: the dashboard, numbers, metrics for Prometheus, a live stream (docs/dashboard.md, docs/api.md). PORT alone is on loopback; unix:/PATH is a socket for this user.',
    otherwise: 'none',
  }),
  apiTokenFile: key(z.string().min(1).max(4096).optional(), {
    group: 'API',
    arg: 'FILE',
    help: 'A file with the token that requests have to show.',
  }),
  apiControlTokenFile: key(z.string().min(1).max(4096).optional(), {
    group: 'API',
    arg: 'FILE',
    help: 'A file with the token by which rules may be switched through the API, and from the dashboard.',
  }),
  apiTlsCert: key(z.string().min(1).max(4096).optional(), {
    group: 'API',
    arg: 'FILE',
    help: 'Answer HTTPS with this certificate (PEM).',
  }),
  apiTlsKey: key(z.string().min(1).max(4096).optional(), {
    group: 'API',
    arg: 'FILE',
    help: 'The key of the certificate.',
  }),
  apiTlsClientCa: key(z.string().min(1).max(4096).optional(), {
    group: 'API',
    arg: 'FILE',
    help: 'Let in only clients with a certificate of this authority.',
  }),
};
