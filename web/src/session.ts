import { tokenOfFragment } from './fragment.ts';

/** The token of who looks: in this tab alone, in no address that is sent or logged. */

const KEY = 'sluice-token';

export function takeToken(): string | undefined {
  const given = tokenOfFragment(location.hash);
  if (given !== undefined) {
    history.replaceState(undefined, '', location.pathname + location.search);
    keepToken(given);
    return given;
  }
  try {
    return sessionStorage.getItem(KEY) ?? undefined;
  } catch {
    return undefined;
  }
}

export function keepToken(token: string | undefined): void {
  try {
    if (token === undefined) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, token);
  } catch {
    // Storage is off in this browser: the token lasts until the page is left.
  }
}
