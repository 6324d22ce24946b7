import { addon } from './addon.ts';
import { monotonicNs } from './system.ts';

/** Looks this often within the time that the manager's watchdog gives. */
const LOOKS = 3;
/** Longest text of a status; `systemctl status` shows one line. */
const STATUS_CHARACTERS = 256;

/**
 * The service manager that has started this process, told by the datagrams of sd_notify(3). systemd alone does so, for units of
 * Type=notify; what it does not take is not tried again.
 */
export class ServiceManager {
  readonly #socket: string;
  readonly #watchdogMs: number | undefined;
  #timer: NodeJS.Timeout | undefined;

  private constructor(socket: string, watchdogMs: number | undefined) {
    this.#socket = socket;
    this.#watchdogMs = watchdogMs;
  }

  /** Takes NOTIFY_SOCKET and the watchdog's settings out of `env`, so that no child speaks for us; undefined without a manager. */
  static from(env: NodeJS.ProcessEnv): ServiceManager | undefined {
    const { NOTIFY_SOCKET: socket = '', WATCHDOG_USEC: usec, WATCHDOG_PID: pid } = env;
    for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) delete env[name];
    if (!/^[/@]./.test(socket)) return undefined;
    const ours = pid === undefined || Number(pid) === process.pid;
    const watchdogMs = Number(usec) / 1000;
    return new ServiceManager(socket, ours && watchdogMs > 0 ? watchdogMs : undefined);
  }

  /**
   * The work has begun.
   * @param progress asked from now on while the watchdog wants signs of life: what `systemctl status` is to show, undefined when
   * there is no progress; the manager then ends the process once its time is over
   */
  ready(progress: () => string | undefined): void {
    this.#tell(`READY=1\nSTATUS=${oneLine(progress() ?? '')}`);
    if (this.#watchdogMs === undefined) return;
    this.#timer ??= setInterval(() => {
      const status = progress();
      if (status !== undefined) this.#tell(`WATCHDOG=1\nSTATUS=${oneLine(status)}`);
    }, this.#watchdogMs / LOOKS).unref();
  }

  /** Settings are being read anew; `reloaded` follows. */
  reloading(): void {
    this.#tell(`RELOADING=1\nMONOTONIC_USEC=${monotonicNs() / 1000n}`);
  }

  reloaded(): void {
    this.#tell('READY=1');
  }

  stopping(): void {
    this.#tell('STOPPING=1');
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  #tell(text: string): void {
    addon().sendDatagram(this.#socket, Buffer.from(text));
  }
}

const oneLine = (text: string): string => text.replaceAll('\n', ' · ').slice(0, STATUS_CHARACTERS);
