import { join } from 'node:path';
import type { Browser } from 'playwright-core';
import { expect } from 'vitest';
import { forward } from '../../src/cli/forward.ts';
import { conversation } from '../../src/packet/conversation.ts';
import { documentOf, Feed, LogDir, mixed, runOn } from '../sensor/run.ts';
import { AttackTraffic, learned } from '../support/attack-traffic.ts';
import { findings, isState, lacksBrowser, launchBrowser, picture } from '../support/browser.ts';
import { kernelTest, ownNetns, vethPair } from '../support/kernel.ts';

ownNetns();

/** For each step of the page, on a machine that has other work. */
const PATIENCE_MS = 120_000;

kernelTest(
  'the dashboard shows an attack with its evidence and its rule, and what was lost',
  ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing'],
  async (context) => {
    const lack = lacksBrowser();
    if (lack !== undefined) context.skip(lack);
    const { a, b, remove } = vethPair();
    using logs = new LogDir();
    const socket = join(logs.path, 'api.sock');
    let browser: Browser | undefined;
    try {
      const options = ['--policy', 'none', '--ring-bytes', '1MiB', '--mitigate', '--min-pps', '2000'];
      const store = ['--rule-store', join(logs.path, 'store')];
      await using run = await runOn(a, logs, ...options, ...store, '--api', `unix:${socket}`).ready();
      await using way = await forward({ host: '127.0.0.1', port: 0 }, socket);
      using traffic = new AttackTraffic(b, 'memcached-amplification', 12);
      browser = await launchBrowser(PATIENCE_MS);
      const page = await browser.newPage({ viewport: { width: 1440, height: 1000 }, colorScheme: 'light' });
      page.setDefaultTimeout(PATIENCE_MS);
      await page.goto(`http://127.0.0.1:${way.port}/`);
      await isState(page, 'live');
      await learned(a, traffic);

      // The attack on its line of time, what it was told from, and the rule that holds it back with its count.
      traffic.attacking = true;
      const attack = page.getByRole('region', { name: 'Attacks' }).locator('li.lasts');
      await attack.getByText('memcached-amplification').waitFor();
      await attack.getByText(traffic.server).first().waitFor();
      await attack.locator('summary').click();
      // More than two.
      await attack.locator('dl.evidence dt').nth(2).waitFor();
      await attack.locator('code', { hasText: 'udp src port 11211' }).waitFor();
      const rule = page.getByRole('region', { name: 'Rules' }).locator('tbody tr', { hasText: '11211' });
      await rule.locator('data[data-name$="-dropped"]:not([value="0"])').waitFor();
      await page.locator('.legend li', { hasText: 'Dropped by rules' }).waitFor();

      // A worker that stands still while more comes than its ring holds: the loss is on the page.
      run.process.kill('SIGSTOP');
      await new Feed(b, mixed([BULK]), 20_000).done;
      run.process.kill('SIGCONT');
      // This one tells of the last minute, the others of all of it.
      await page.locator('.checks li.bad', { hasText: 'Capture' }).waitFor();
      await page.locator('.tiles .bad', { hasText: 'Lost' }).waitFor();
      await page.locator('.legend li.bad', { hasText: 'Lost' }).waitFor();
      await page.getByRole('region', { name: 'Losses' }).locator('tr.bad', { hasText: 'ringFull' }).waitFor();
      expect(await findings(page)).toEqual([]);
      await picture(page, 'attack-light');
      await page.getByText('Dark', { exact: true }).click();
      await page.waitForFunction('document.documentElement.dataset.theme === "dark"');
      expect(await findings(page)).toEqual([]);
      await picture(page, 'attack-dark');
      await page.setViewportSize({ width: 360, height: 740 });
      await page.waitForFunction('document.documentElement.scrollWidth <= innerWidth');
      // What is lost is read without scrolling sideways.
      await page.waitForFunction(
        `(({ scrollWidth, clientWidth }) => scrollWidth <= clientWidth)(document.querySelector('[aria-label=Losses]'))`,
      );
      expect(await findings(page)).toEqual([]);
      await picture(page, 'attack-narrow');

      // At the end the page has the numbers of the summary.
      traffic.attacking = false;
      const summary = documentOf(await run.stop());
      await isState(page, 'ended');
      const value = async (name: string): Promise<number> =>
        Number(await page.locator(`data[data-name="${name}"]`).getAttribute('value'));
      expect(summary.ring.drops).toBeGreaterThan(0);
      expect(await value('lost-ring')).toBe(summary.ring.drops);
      expect(await value('ruleDropped-pkts')).toBe(summary.ledger?.ruleDropped.pkts);
    } finally {
      await browser?.close();
      remove();
    }
  },
);

/** More than a ring of 1 MiB holds. */
const BULK = conversation({
  client: { address: '192.0.2.8', port: 8001 },
  server: { address: '192.0.2.9', port: 80 },
  turns: [{ from: 'server', data: 6_000_000 }],
  mss: 1400,
});
