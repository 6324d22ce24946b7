import type { Service } from './service.ts';
import { TLS } from './tls.ts';

/** All that is recognized; where several fit the first bytes, all of them look on until one is sure. */
export const SERVICES: readonly Service[] = [TLS];
