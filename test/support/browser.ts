import { accessSync, constants, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { type Browser, chromium, type Page } from 'playwright-core';

const CHROMIUM = '/usr/bin/chromium';
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** What is missing for a browser; undefined: nothing. */
export function lacksBrowser(): string | undefined {
  try {
    accessSync(CHROMIUM, constants.X_OK);
    return undefined;
  } catch {
    return `${CHROMIUM} is not there: apt-get install chromium`;
  }
}

/** Debian's own browser, which takes part in no update and has no profile. */
export async function launchBrowser(patience: number): Promise<Browser> {
  return await chromium.launch({
    executablePath: CHROMIUM,
    timeout: patience,
    args: process.getuid?.() === 0 ? ['--no-sandbox'] : [],
  });
}

/** What runs in the page is text: the types of a browser are not those of these tests. */
const SERIOUS = `axe.run().then(({ violations }) => violations
  .filter(({ impact }) => impact === 'serious' || impact === 'critical')
  .map(({ id, nodes }) => id + ': ' + nodes.map(({ html, failureSummary }) => html + ' ' + failureSummary).join('; ')))`;

/** What somebody who does not see the page, or uses no mouse, would not get by with. */
export async function findings(page: Page): Promise<string[]> {
  await page.evaluate(AXE);
  return await page.evaluate<string[]>(SERIOUS);
}

/** `SLUICE_SCREENSHOTS=DIR` keeps pictures, to be looked at. */
export async function picture(page: Page, name: string): Promise<void> {
  const directory = process.env['SLUICE_SCREENSHOTS'];
  if (directory === undefined) return;
  await page.evaluate('scrollTo(0, 0)');
  await page.screenshot({ path: join(directory, `${name}.png`), fullPage: true });
}

/** Waits until the page says so of its numbers: live, late, stale, ended. */
export const isState = async (page: Page, state: string): Promise<void> =>
  await page.locator(`.state[data-state="${state}"]`).waitFor();
