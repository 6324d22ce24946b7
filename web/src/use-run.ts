import { useCallback, useEffect, useRef, useState } from 'preact/hooks';
import type { Board, Session } from '../../src/api/board-shapes.ts';
import type { Point } from '../../src/api/point.ts';
import type { Tick } from '../../src/api/shapes.ts';
import { ask, Denied, follow } from './feed.ts';
import { type Freshness, freshness } from './freshness.ts';
import { merged } from './series.ts';
import { keepToken, takeToken } from './session.ts';

const BOARD_MS = 3000;
const AGE_MS = 250;

export interface RunView {
  tick: Tick | undefined;
  points: readonly Point[];
  board: Board | undefined;
  /** Seconds since the board came. */
  boardAge: number | undefined;
  session: Session | undefined;
  /** Seconds since the latest numbers came; undefined: none have. */
  age: number | undefined;
  freshness: Freshness;
  /** Seconds until the next try to connect; undefined: connected. */
  retryIn: number | undefined;
  /** A token is needed; `wrong`: another than was given. */
  login: 'none' | 'needed' | 'wrong';
  token: string | undefined;
  logIn: (token: string | undefined) => void;
  /** The board is read now. */
  refresh: () => void;
}

/** Everything that the page knows of the run, and how old that is. */
export function useRun(): RunView {
  const [token, setToken] = useState(takeToken);
  const [login, setLogin] = useState<RunView['login']>('none');
  const [tick, setTick] = useState<Tick>();
  const [points, setPoints] = useState<readonly Point[]>([]);
  const [board, setBoard] = useState<Board>();
  const [session, setSession] = useState<Session>();
  const [ended, setEnded] = useState(false);
  const [retryAt, setRetryAt] = useState<number>();
  const [now, setNow] = useState(performance.now());
  const tickAt = useRef<number>(undefined);
  const boardAt = useRef<number>(undefined);
  const started = useRef<number>(undefined);

  const denied = useCallback(() => setLogin(token === undefined ? 'needed' : 'wrong'), [token]);

  const take = useCallback((fresh: Tick, isLast: boolean): void => {
    // Another run: nothing of the one before is its.
    if (started.current !== undefined && started.current !== fresh.status.started) {
      setPoints([]);
      setBoard(undefined);
      boardAt.current = undefined;
    }
    started.current = fresh.status.started;
    tickAt.current = performance.now();
    setTick(fresh);
    setEnded(isLast);
    setPoints((known) => merged(known, [fresh.point]));
  }, []);

  useEffect(
    () =>
      follow(token, {
        tick: (fresh) => {
          setLogin('none');
          take(fresh, false);
        },
        history: (more) => setPoints((known) => merged(known, more)),
        ended: (last) => take(last, true),
        retry: (ms) => setRetryAt(ms === undefined ? undefined : performance.now() + ms),
        denied,
      }),
    [token, denied, take],
  );

  const refresh = useCallback(async (): Promise<void> => {
    try {
      const [fresh, who] = await Promise.all([
        ask<Board>('/v1/board', token),
        ask<Session>('/v1/session', token),
      ]);
      boardAt.current = performance.now();
      setBoard(fresh);
      setSession(who);
    } catch (error) {
      // What else is wrong shows in the age of what is there.
      if (error instanceof Denied) denied();
    }
  }, [token, denied]);

  const isOn = login === 'none' && !ended && retryAt === undefined;
  useEffect(() => {
    if (!isOn) return undefined;
    void refresh();
    const timer = setInterval(() => void refresh(), BOARD_MS);
    return () => clearInterval(timer);
  }, [isOn, refresh]);

  useEffect(() => {
    const timer = setInterval(() => setNow(performance.now()), AGE_MS);
    return () => clearInterval(timer);
  }, []);

  const since = (at: number | undefined): number | undefined =>
    at === undefined ? undefined : Math.max(0, now - at) / 1000;
  const age = since(tickAt.current);
  return {
    tick,
    points,
    board,
    boardAge: since(boardAt.current),
    session,
    age,
    freshness: freshness(age, ended),
    retryIn: retryAt === undefined ? undefined : Math.max(0, retryAt - now) / 1000,
    login,
    token,
    logIn: (given) => {
      keepToken(given);
      setToken(given);
      setLogin('none');
    },
    refresh: () => void refresh(),
  };
}
