import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { SluiceError } from '../base/errors.ts';
import { shellWord } from '../base/shell.ts';
import {
  channelCounts,
  coalescing,
  deviceFeatures,
  hashFields,
  pauseFrames,
  privateFlags,
  ringSizes,
  rssSettings,
  setChannels,
  setCoalescing,
  setFeature,
  setHashFields,
  setPauseFrames,
  setPrivateFlag,
  setRss,
  setRxRing,
} from '../kernel/index.ts';
import type { Change, Setting } from './finding.ts';
import { keyBytes } from './toeplitz.ts';

/** Where files may be written: what `--undo` reads from its state is not trusted beyond this. */
const PLACES = ['/proc/sys/', '/proc/irq/', '/sys/'] as const;

export function isAllowedPath(path: string): boolean {
  return resolve(path) === path && PLACES.some((place) => path.startsWith(place));
}

const onOff = (on: boolean): string => (on ? 'on' : 'off');

/** Of files that list all choices, the chosen one: `[default] performance`. */
function chosen(text: string): string {
  return /\[([^\]\s]+)\]/.exec(text)?.[1] ?? text;
}

function fileValue(path: string): string | undefined {
  if (!isAllowedPath(path)) return undefined;
  try {
    return chosen(readFileSync(path, 'utf8').trim());
  } catch {
    return undefined;
  }
}

/** What a setting is now; undefined where it is not there. */
export function readSetting(setting: Setting): string | undefined {
  if (setting.kind === 'file') return fileValue(setting.path);
  const { ifname } = setting;
  switch (setting.kind) {
    case 'feature': {
      // What was asked for: another setting may hold it back for the moment.
      const feature = deviceFeatures(ifname)?.[setting.name];
      return feature === undefined ? undefined : onOff(feature.wanted);
    }
    case 'private-flag': {
      const flag = privateFlags(ifname)?.[setting.name];
      return flag === undefined ? undefined : onOff(flag);
    }
    case 'ring':
      return ringSizes(ifname)?.rx.toString();
    case 'channels':
      return channelCounts(ifname)?.[setting.name].toString();
    case 'coalescing': {
      const told = coalescing(ifname);
      if (told === undefined) return undefined;
      return setting.name === 'adaptive-rx' ? onOff(told.adaptiveRx) : String(told.rxUsecs);
    }
    case 'pause': {
      const told = pauseFrames(ifname);
      return told && `autoneg ${onOff(told.autoneg)} rx ${onOff(told.rx)} tx ${onOff(told.tx)}`;
    }
    case 'rss-key': {
      const key = rssSettings(ifname)?.key;
      return key === undefined || key.length === 0 ? undefined : Buffer.from(key).toString('hex');
    }
    case 'rss-table': {
      const table = rssSettings(ifname)?.table;
      return table === undefined || table.length === 0 ? undefined : table.join(',');
    }
    default:
      return hashFields(ifname, setting.name);
  }
}

/** @throws KernelError, Error of node:fs */
export function writeSetting(setting: Setting, value: string): void {
  if (setting.kind === 'file') {
    if (!isAllowedPath(setting.path) || !existsSync(setting.path))
      throw new SluiceError('FILE', `${setting.path} is no setting of this machine`);
    writeFileSync(setting.path, value);
    return;
  }
  const { ifname } = setting;
  switch (setting.kind) {
    case 'feature':
      setFeature(ifname, setting.name, value === 'on');
      return;
    case 'private-flag':
      setPrivateFlag(ifname, setting.name, value === 'on');
      return;
    case 'ring':
      setRxRing(ifname, Number(value));
      return;
    case 'channels':
      setChannels(ifname, setting.name, Number(value));
      return;
    case 'coalescing':
      setCoalescing(
        ifname,
        setting.name === 'adaptive-rx' ? { adaptiveRx: value === 'on' } : { rxUsecs: Number(value) },
      );
      return;
    case 'pause': {
      const words = value.split(' ');
      const on = (name: string): boolean => words[words.indexOf(name) + 1] === 'on';
      setPauseFrames(ifname, { autoneg: on('autoneg'), rx: on('rx'), tx: on('tx') });
      return;
    }
    case 'rss-key':
      setRss(ifname, { key: keyBytes(value) });
      return;
    case 'rss-table':
      setRss(ifname, { table: value.split(',').map(Number) });
      return;
    case 'hash-fields':
      setHashFields(ifname, setting.name, value);
      return;
  }
}

/** What a setting is called in messages. */
export function settingText(setting: Setting): string {
  if (setting.kind === 'file') return setting.path;
  const name = 'name' in setting ? ` ${setting.name}` : '';
  return `${setting.ifname}: ${setting.kind}${name}`;
}

const PROC_SYS = '/proc/sys/';

/** The command that makes a change, for those who would rather type it. */
export function commandOf({ setting, value }: Change): string {
  if (setting.kind === 'file') {
    if (setting.path.startsWith(PROC_SYS))
      return `sysctl -w ${setting.path.slice(PROC_SYS.length).replaceAll('/', '.')}=${shellWord(value)}`;
    return `echo ${shellWord(value)} > ${shellWord(setting.path)}`;
  }
  const ifname = shellWord(setting.ifname);
  switch (setting.kind) {
    case 'feature':
      return `ethtool -K ${ifname} ${setting.name} ${value}`;
    case 'private-flag':
      return `ethtool --set-priv-flags ${ifname} ${shellWord(setting.name)} ${value}`;
    case 'ring':
      return `ethtool -G ${ifname} rx ${value}`;
    case 'channels':
      return `ethtool -L ${ifname} ${setting.name} ${value}`;
    case 'coalescing':
      return `ethtool -C ${ifname} ${setting.name} ${value}`;
    case 'pause':
      return `ethtool -A ${ifname} ${value}`;
    case 'rss-key':
      return `ethtool -X ${ifname} hkey ${value.match(/../g)?.join(':') ?? ''}`;
    case 'rss-table':
      return `ethtool -X ${ifname} equal ${new Set(value.split(',')).size}`;
    default:
      return `ethtool -N ${ifname} rx-flow-hash ${setting.name} ${value}`;
  }
}
