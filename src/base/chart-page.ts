import { readFileSync } from 'node:fs';

export interface ChartPage {
  title: string;
  /** HTML below the heading. */
  body: string;
  /** More rules for the page. */
  style?: string;
  /** What `script` finds in `data`. */
  data: unknown;
  /** Draws with `uPlot`; `wide` is an axis that has room for its numbers. */
  script: string;
}

/** Text as HTML shows it. */
export const escaped = (text: string): string => text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

const uPlotFile = (file: string): string =>
  readFileSync(new URL(import.meta.resolve(`uplot/dist/${file}`)), 'utf8');

/** A page with charts as one HTML file that needs nothing else. */
export function chartPage({ title, body, style = '', data, script }: ChartPage): string {
  // Within a script element nothing may look like its end.
  const json = JSON.stringify(data).replaceAll('<', '\\u003c');
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${escaped(title)}</title>
<style>${uPlotFile('uPlot.min.css')}
:root { color-scheme: light dark; --ink: #1c2430; --paper: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6ebf2; --paper: #12161c; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
pre { overflow-x: auto; }
${style}
</style></head><body>
<h1>${escaped(title)}</h1>
${body}
<script>${uPlotFile('uPlot.iife.min.js')}</script>
<script>
const data = ${json};
// 50 pixels where nothing else is said: 100,000 is cut off.
const wide = { size: 80 };
${script}
</script></body></html>
`;
}
