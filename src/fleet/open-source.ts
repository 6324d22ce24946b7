import { resolve } from 'node:path';
import { SluiceError } from '../base/errors.ts';
import type { NatsAccess } from './nats-access.ts';
import { natsPlace } from './nats-place.ts';
import { NatsSource } from './nats-source.ts';
import { fileSource, httpSource } from './polled-source.ts';
import type { RuleSource } from './source.ts';

const EVERY = { file: 1, http: 10 } as const;

/** @throws SluiceError USAGE unless it names a source; answers it with files made absolute */
export function checkSource(text: string): string {
  if (!/^[a-z+]+:\/\//i.test(text)) return resolve(text);
  const scheme = text.slice(0, text.indexOf(':')).toLowerCase();
  if (scheme === 'nats' || scheme === 'nats+tls') natsPlace(text);
  else if (!['file', 'http', 'https'].includes(scheme) || !URL.canParse(text))
    throw new SluiceError('USAGE', 'rules do not come from there', {
      help: 'FILE, http://…, https://…, nats://HOST[/BUCKET], nats+tls://…',
    });
  return text;
}

/**
 * @param every seconds between questions to a file or a web server
 * @param node what it is called in reports
 * @param access for a server of NATS
 * @param programs whether compiled programs are asked for as well
 * @throws SluiceError USAGE
 */
export function openSource(
  text: string,
  node: string,
  access: NatsAccess,
  every?: number,
  programs = false,
): RuleSource {
  if (text.startsWith('/')) return fileSource(text, every ?? EVERY.file);
  if (/^nats/i.test(text)) return new NatsSource(natsPlace(text, access), node, programs);
  const url = new URL(text);
  if (url.protocol === 'file:') return fileSource(decodeURIComponent(url.pathname), every ?? EVERY.file);
  return httpSource(url, every ?? EVERY.http);
}
