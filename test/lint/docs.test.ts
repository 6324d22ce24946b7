import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import type { ConnRecord } from '../../src/flow/types.ts';
import { connLine, noticeLine, shuntLine, statsLine } from '../../src/log/index.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
const pages = [
  'README.md',
  'CHANGELOG.md',
  'LICENSES/README.md',
  ...readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.md'))
    .map((name) => join('docs', name)),
];

const read = (page: string) => readFileSync(join(root, page), 'utf8');

describe('documentation', () => {
  it.each(pages)('%s links only to what is there', (page) => {
    for (const [, target] of read(page).matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g)) {
      const path = join(root, dirname(page), target);
      expect(existsSync(path), `${page} links to ${relative(root, path)}`).toBe(true);
    }
  });

  it('lists every decision record', () => {
    const index = read('docs/adr/README.md');
    for (const name of readdirSync(join(root, 'docs/adr')).filter((each) => /^\d/.test(each)))
      expect(index).toContain(`(${name})`);
  });

  it('names every field of every log', () => {
    const conn: ConnRecord = {
      ts: 1,
      uid: 'C',
      origHost: 'a',
      origPort: 1,
      respHost: 'b',
      respPort: 2,
      proto: 'tcp',
      ipProto: 6,
      service: 'ssl',
      duration: 1,
      origBytes: 1,
      respBytes: 1,
      connState: 'SF',
      localOrig: true,
      localResp: true,
      missedBytes: 0,
      history: 'S',
      origPkts: 1,
      origIpBytes: 1,
      respPkts: 1,
      respIpBytes: 1,
      tunnelParents: [],
      vlan: 1,
      innerVlan: 2,
    };
    const shunted = {
      origPkts: 1,
      origIpBytes: 1,
      respPkts: 1,
      respIpBytes: 1,
      trigger: 'tls',
      recovered: true,
    };
    const lines = [
      connLine(conn, shunted, { vlan: true }),
      shuntLine({
        ...conn,
        event: 'end',
        trigger: 'tls',
        reason: 'fin',
        origBytes: 1,
        respBytes: 1,
        delay: 1,
        last: 1,
      }),
      statsLine({
        ts: 1,
        peer: 'eth1',
        mem: 1,
        pktsProc: 1,
        bytesRecv: 1,
        pktsDropped: 1,
        pktsLink: 1,
        activeConns: 1,
        conns: 1,
        shunts: 1,
        logLost: 1,
      }),
      noticeLine({ ts: 1, note: 'n', msg: 'm', sub: 's', peer: 'p' }),
    ];
    const page = read('docs/logs.md');
    for (const line of lines) {
      for (const field of Object.keys(JSON.parse(line) as object))
        expect(page, field).toContain(`\`${field}\``);
    }
  });
});
