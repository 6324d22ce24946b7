import { defineConfig } from 'vite';

/** One page, a script and a style sheet; no inline code, so that the server's content security policy holds. */
export default defineConfig({
  base: './',
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  build: { target: 'es2023', emptyOutDir: true, modulePreload: false, assetsInlineLimit: 0 },
});
