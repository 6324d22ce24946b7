import type { EveCounts, Request } from './control-protocol.ts';
import type { Peer } from './control-server.ts';
import { EVE_OWNER, EveDriver, type EveOptions, type EveWish } from './eve.ts';

/** Seconds that its entries outlive a daemon that hangs, and that a connection may be silent. */
const LEASE = 10;
const IDLE = 300;
const RENEW_MS = 1000;

/** What EVE records lead to, asked of the daemon like anybody asks. */
export class EveKeeper {
  readonly #driver: EveDriver;
  readonly #timer: NodeJS.Timeout;

  private constructor(driver: EveDriver, timer: NodeJS.Timeout) {
    this.#driver = driver;
    this.#timer = timer;
  }

  /**
   * @param perform as over the control socket
   * @throws SluiceError as EveDriver.start
   */
  static async start(
    options: EveOptions,
    settings: { vlanKey: boolean; mode: number },
    perform: (request: Request, peer: Peer) => Promise<unknown>,
    warn: (text: string) => void,
  ): Promise<EveKeeper> {
    const peer: Peer = { uid: 0, pid: process.pid };
    const ask = (request: object): Promise<unknown> => perform({ id: 0, ...request } as Request, peer);
    await ask({ op: 'owner.register', name: EVE_OWNER, lease: LEASE, idle: IDLE, maxEntries: 65_536 });
    const add = async (wishes: readonly EveWish[]): Promise<void> => {
      const flows = wishes.filter(({ pairFor }) => pairFor === undefined);
      for (const { a, b, vlan, innerVlan, pairFor: ttl, refused } of wishes) {
        if (ttl === undefined) continue;
        const pair = { a: a.addr, b: b.addr, vlan, innerVlan };
        await ask({ op: 'pair.add', ...pair, owner: EVE_OWNER, ttl, why: 'EVE' }).catch(refused);
      }
      if (flows.length === 0) return;
      const { results } = (await ask({
        op: 'add',
        owner: EVE_OWNER,
        why: 'EVE',
        flows: flows.map((wish) => {
          const { proto, a, b, vlan, innerVlan, trigger } = wish;
          return { proto, a, b, vlan, innerVlan, vni: 0, trigger };
        }),
      })) as { results: readonly { error?: unknown }[] };
      // Refusals are in the audit log.
      results.forEach(({ error }, i) => {
        if (error !== undefined) flows[i].refused();
      });
    };
    const driver = await EveDriver.start(options, settings, add, warn);
    const timer = setInterval(() => {
      ask({ op: 'renew', owner: EVE_OWNER }).catch((error: Error) =>
        warn(`the lease of ${EVE_OWNER} was not renewed: ${error.message}`),
      );
    }, RENEW_MS);
    return new EveKeeper(driver, timer);
  }

  get counts(): EveCounts {
    return this.#driver.counts;
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#driver.close();
  }
}
