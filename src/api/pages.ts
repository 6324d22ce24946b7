import { readdirSync, readFileSync } from 'node:fs';
import { extname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import type { FastifyInstance } from 'fastify';
import { packageRoot } from '../kernel/index.ts';

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
};
/** Nothing from elsewhere, nothing inline, in nobody's frame. */
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/** Names of assets have a hash of what is in them. */
const FOR_EVER = 'public, max-age=31536000, immutable';

interface Page {
  type: string;
  body: Buffer;
  zipped: Buffer;
}

/** The files of the dashboard by their paths, as `npm run build` has made them; empty where it has not. */
export function readPages(directory = join(packageRoot(), 'build', 'web')): Map<string, Page> {
  const pages = new Map<string, Page>();
  let names: string[];
  try {
    names = readdirSync(directory, { recursive: true, encoding: 'utf8' });
  } catch {
    return pages;
  }
  for (const name of names) {
    const type = TYPES[extname(name)];
    if (type === undefined) continue;
    const body = readFileSync(join(directory, name));
    const page = { type, body, zipped: gzipSync(body) };
    pages.set(`/${name}`, page);
    if (name === 'index.html') pages.set('/', page);
  }
  return pages;
}

/** Serves them; they hold no numbers, so that they need no token. */
export function addPages(app: FastifyInstance, pages: ReadonlyMap<string, Page>): void {
  for (const [path, { type, body, zipped }] of pages)
    app.get(path, { schema: { hide: true } }, async (request, reply) => {
      const zip = /\bgzip\b/.test(request.headers['accept-encoding'] ?? '');
      reply
        .header('content-type', type)
        .header('content-security-policy', POLICY)
        .header('referrer-policy', 'no-referrer')
        .header('cross-origin-opener-policy', 'same-origin')
        .header('vary', 'accept-encoding')
        .header('cache-control', path.startsWith('/assets/') ? FOR_EVER : 'no-store');
      if (zip) reply.header('content-encoding', 'gzip');
      return reply.send(zip ? zipped : body);
    });
}
