import { useEffect, useState } from 'preact/hooks';

export type Theme = 'auto' | 'light' | 'dark';
const KEY = 'sluice-theme';

function kept(): Theme {
  try {
    const value = localStorage.getItem(KEY);
    return value === 'light' || value === 'dark' ? value : 'auto';
  } catch {
    return 'auto';
  }
}

/** Light or dark as the system has it, or as was chosen here; and which of the two that is now. */
export function useTheme(): { theme: Theme; shown: 'light' | 'dark'; set: (theme: Theme) => void } {
  const [theme, setTheme] = useState<Theme>(kept);
  const [isDark, setDark] = useState(() => matchMedia('(prefers-color-scheme: dark)').matches);
  useEffect(() => {
    const query = matchMedia('(prefers-color-scheme: dark)');
    const changed = (): void => setDark(query.matches);
    query.addEventListener('change', changed);
    return () => query.removeEventListener('change', changed);
  }, []);
  const shown = theme === 'auto' ? (isDark ? 'dark' : 'light') : theme;
  document.documentElement.dataset['theme'] = shown;
  return {
    theme,
    shown,
    set: (chosen) => {
      setTheme(chosen);
      try {
        localStorage.setItem(KEY, chosen);
      } catch {
        // Storage is off in this browser: the choice lasts until the page is left.
      }
    },
  };
}
