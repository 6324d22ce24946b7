import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { expect } from 'vitest';
import { createLab, type Lab } from '../../lab/lab.ts';
import type { TrafficPlan } from '../../lab/plan.ts';
import { runTraffic } from '../../lab/traffic.ts';
import { forward } from '../../src/cli/forward.ts';
import { documentOf, LogDir, type Run, runOnTap, SLUICE } from '../sensor/run.ts';
import { findings, isState, lacksBrowser, launchBrowser, picture } from '../support/browser.ts';
import { kernelTest, until } from '../support/kernel.ts';

const ONLOOKERS = 100;
/** For each step of the page, on a machine that has other work. */
const PATIENCE_MS = 120_000;
const READ_TOKEN = 'read-0123456789abcdef';
const CONTROL_TOKEN = 'control-0123456789abcdef';
/** A connection that stays open is shunted for as long as the traffic lasts. */
const TRAFFIC: TrafficPlan = {
  name: 'dashboard',
  concurrency: 3,
  repeatSeconds: 800,
  maxBytes: 1e11,
  transfers: [
    { kind: 'tcp', bytes: 3_000_000, close: 'open' },
    { kind: 'https', bytes: 400_000, count: 8 },
    { kind: 'tcp', bytes: 40_000_000 },
    { kind: 'http', bytes: 20_000, count: 8, family: 6 },
    { kind: 'dns', count: 10 },
  ],
};
/** Not in the lab: shunted by hand, so that nothing ends it. */
const BY_HAND = 'tcp 192.0.2.1:50001 192.0.2.2:443';

/** Onlookers of the stream by themselves, without a page. */
class Onlookers {
  readonly lines: number[];
  readonly #requests: ReturnType<typeof get>[];

  constructor(socketPath: string, count: number) {
    this.lines = Array.from({ length: count }, () => 0);
    const headers = { authorization: `Bearer ${READ_TOKEN}` };
    this.#requests = this.lines.map((_, i) =>
      get({ socketPath, path: '/v1/stream', headers }, (response) => {
        response.on('data', (data: Buffer) => {
          this.lines[i] += data.toString('latin1').split('event: tick').length - 1;
        });
        response.on('error', () => {});
      }).on('error', () => {}),
    );
  }

  close(): void {
    for (const request of this.#requests) request.destroy();
  }
}

/** What runs in the page is text: the types of a browser are not those of these tests. */
const FOCUSED = `(() => {
  const at = document.activeElement;
  return at?.getAttribute('aria-label') ?? at?.closest('label')?.textContent ?? at?.textContent ?? '';
})()`;

/** Where the keyboard goes from where it is. */
async function tabOrder(page: Page, steps: number): Promise<string[]> {
  const order: string[] = [];
  for (let i = 0; i < steps; i++) {
    await page.keyboard.press('Tab');
    order.push(await page.evaluate<string>(FOCUSED));
  }
  return order;
}

const number = async (page: Page, name: string): Promise<number> =>
  Number(await page.locator(`data[data-name="${name}"]`).getAttribute('value'));

async function inTap(lab: Lab, ...args: string[]): Promise<string> {
  return (await lab.exec('tapA', [...SLUICE, ...args])).stdout;
}

async function logIn(page: Page, token: string): Promise<void> {
  await page.locator('form.login input[name=token]').fill(token);
  await page.getByRole('button', { name: 'Log in' }).click();
}

kernelTest(
  'the dashboard shows what the ledger says, says how old it is, and is for everybody',
  ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing'],
  async (context) => {
    const lack = lacksBrowser();
    if (lack !== undefined) context.skip(lack);
    const directory = mkdtempSync(join(tmpdir(), 'sluice-dashboard-'));
    const socket = join(directory, 'api.sock');
    const [readFile, controlFile] = [join(directory, 'read'), join(directory, 'control')];
    writeFileSync(readFile, READ_TOKEN);
    writeFileSync(controlFile, CONTROL_TOKEN);
    using logs = new LogDir();
    // So slow that a sensor which has to wait for the browser for some seconds loses nothing.
    await using lab = await createLab({ mbps: 200 });
    const options = ['--policy', 'bulk=100kB', '--ring-bytes', '256MiB', '--api', `unix:${socket}`];
    const tokens = ['--api-token-file', readFile, '--api-control-token-file', controlFile];
    // No traffic of the lab is an attack by that.
    const rules = ['--mitigate', '--min-pps', '10000000', '--rule-store', directory];
    await using run: Run = await runOnTap(lab, 'a', logs, ...options, ...tokens, ...rules).ready();
    await using way = await forward({ host: '127.0.0.1', port: 0 }, socket);
    const onlookers = new Onlookers(socket, ONLOOKERS);
    const traffic = new AbortController();
    const moving = runTraffic(lab, TRAFFIC, { signal: traffic.signal });
    let browser: Browser | undefined;
    try {
      browser = await launchBrowser(PATIENCE_MS);
      const page = await browser.newPage({ viewport: { width: 1440, height: 1000 }, colorScheme: 'light' });
      page.setDefaultTimeout(PATIENCE_MS);
      const outside: string[] = [];
      page.on('request', (request) => {
        if (!request.url().startsWith(`http://127.0.0.1:${way.port}/`)) outside.push(request.url());
      });
      const broken: string[] = [];
      page.on('pageerror', (error) => broken.push(error.message));

      // Nobody sees a number without the token, and the token is in no address.
      await page.goto(`http://127.0.0.1:${way.port}/`);
      expect(await findings(page)).toEqual([]);
      await logIn(page, 'another-token-altogether');
      await page.getByText('That is not the token.').waitFor();
      expect(await page.locator('.tiles').count()).toBe(0);
      await logIn(page, READ_TOKEN);
      await isState(page, 'live');
      expect(page.url()).toBe(`http://127.0.0.1:${way.port}/`);

      // Live: what is shunted, and why.
      const top = page.getByRole('region', { name: 'Top shunted flows' }).locator('tbody tr');
      await top.first().waitFor();
      await page.getByRole('region', { name: 'Services' }).getByText('ssl').waitFor();
      await inTap(lab, 'shunt', 'add', '--flow', BY_HAND);
      const search = page.getByRole('searchbox', { name: 'Look up a flow' });
      await search.fill(BY_HAND);
      await search.press('Enter');
      await page.locator('.verdict.shunted').waitFor();
      const ended = (): ReturnType<LogDir['read']>[number] | undefined =>
        logs.read('conn').find((line) => Number(line['resp_shunted_pkts']) > 0);
      await until(() => ended() !== undefined, 'no connection that was shunted has ended', 120);
      const shunted = ended();
      const end = (side: string): string =>
        `${String(shunted?.[`id.${side}_h`])} ${String(shunted?.[`id.${side}_p`])}`;
      await search.fill(`${end('orig')} -> ${end('resp')}`);
      await search.press('Enter');
      await page.locator('.verdict.ended-shunted').waitFor();
      expect(await page.locator('.verdict').textContent()).toContain('shunted');
      await search.fill('no flow at all');
      await search.press('Enter');
      await page.locator('.answer .problem').waitFor();
      await page.getByRole('button', { name: 'Close' }).click();

      // Rules are switched with the other token alone.
      await inTap(lab, 'rule', 'add', '--id', 'spare', '--action', 'drop', 'udp port 9');
      const rule = page.getByRole('region', { name: 'Rules' }).locator('tbody tr', { hasText: 'spare' });
      await rule.waitFor();
      expect(await page.getByRole('switch').count()).toBe(0);
      await page.getByLabel('Control token').fill(CONTROL_TOKEN);
      await page.getByRole('button', { name: 'Unlock' }).click();
      await rule.getByRole('switch').click();
      await page.locator('[role=switch][aria-checked=false]').waitFor();
      const [row] = JSON.parse(await inTap(lab, 'rule', 'ls', '--json')) as { enabled: boolean }[];
      expect(row).toMatchObject({ id: 'spare', enabled: false });

      // For everybody: light, dark, narrow, by the keyboard.
      expect(await findings(page)).toEqual([]);
      await picture(page, 'light');
      await page.getByText('Dark', { exact: true }).click();
      await page.waitForFunction('document.documentElement.dataset.theme === "dark"');
      expect(await findings(page)).toEqual([]);
      await picture(page, 'dark');
      await search.focus();
      const order = await tabOrder(page, 6);
      expect(order).toEqual(['Look up', 'Dark', 'Log out', 'bit/s', '5 min', 'Ledger']);
      await page.setViewportSize({ width: 360, height: 740 });
      await page.waitForFunction('document.documentElement.scrollWidth <= innerWidth');
      expect(await findings(page)).toEqual([]);
      await picture(page, 'narrow');
      await page.setViewportSize({ width: 1440, height: 1000 });

      // What has stopped is not shown as live, and is live again when it goes on.
      traffic.abort();
      await moving;
      run.process.kill('SIGSTOP');
      await isState(page, 'stale');
      expect(await page.locator('main.old').count()).toBe(1);
      await page.getByText('may be wrong by now').waitFor();
      expect(await findings(page)).toEqual([]);
      await picture(page, 'stale');
      run.process.kill('SIGCONT');
      await isState(page, 'live');
      expect(await page.locator('main.old').count()).toBe(0);

      // The end: the page has the very numbers of the run's own summary.
      await until(() => onlookers.lines.every((lines) => lines > 1), 'an onlooker is not served');
      const summary = documentOf(await run.stop());
      await isState(page, 'ended');
      const { ledger } = summary;
      expect(ledger?.shunted.pkts).toBeGreaterThan(0);
      for (const name of ['seen', 'passed', 'shunted', 'ruleDropped', 'rateLimited', 'aborted'] as const) {
        expect([name, await number(page, `${name}-pkts`)]).toEqual([name, ledger?.[name].pkts]);
        expect([name, await number(page, `${name}-bytes`)]).toEqual([name, ledger?.[name].bytes]);
      }
      expect(await number(page, 'handled-pkts')).toBe(summary.ring.packets);
      expect(await number(page, 'connections')).toBe(summary.connections);
      expect(summary.ring.drops).toBe(0);
      expect(await number(page, 'lost-ring')).toBe(0);
      await picture(page, 'ended');
      expect(outside).toEqual([]);
      expect(broken).toEqual([]);
    } finally {
      run.process.kill('SIGCONT');
      traffic.abort();
      onlookers.close();
      await browser?.close();
      await moving;
      rmSync(directory, { recursive: true, force: true });
    }
  },
);
