import { realtimeOffset } from '../src/kernel/index.ts';
import type { AgentAttachment } from './agent-protocol.ts';
import { linkStats } from './counters.ts';
import { objectPath } from './objects.ts';
import { type ImpairOptions, TUNNEL_ROOM, type TunnelOptions, type VlanOptions } from './options.ts';
import { endpoints, type Namespaces, replayPort, sides, taps } from './topology.ts';
import { Worker } from './worker.ts';

/** What an impairment has done, in frames. */
export interface ImpairCounters {
  seen: number;
  dropped: number;
  duplicated: number;
  /** Held back, and put back since. */
  held: number;
  returned: number;
  /** Frames that were to be duplicated or held but could not: they passed. */
  failed: number;
}

const directions = ['client', 'server'] as const;
const mirrors = ['a', 'b'] as const;

const perMillion = (share: number) => Math.round(share * 1_000_000);

/** The lab's traffic-control programs, held by a process inside the hub's namespace. */
export class HubPrograms {
  readonly #ns: Namespaces;
  readonly #agent: Worker;
  #impair: Record<'client' | 'server', number> | undefined;
  #vlan: Record<'a' | 'b', number> | undefined;

  constructor(ns: Namespaces) {
    this.#ns = ns;
    this.#agent = new Worker(ns.hub, 'agent');
  }

  /** Makes the link between client and server bad, in each direction with draws of its own. */
  async impair(options: Required<ImpairOptions>, mtu: number): Promise<void> {
    const object = objectPath('lab_impair');
    const handles = { client: -1, server: -1 };
    for (const [index, name] of directions.entries()) {
      const { out, back } = sides[name];
      await this.#ns.hub.ip([
        `link add ${out} mtu ${mtu} type veth peer name ${back} mtu ${mtu}`,
        `link set dev ${out} arp off up`,
        `link set dev ${back} arp off up`,
      ]);
      // Room for one frame, which the filler takes. Each is charged `overhead` more, so that short ones wait as well:
      // about 0.2 ms.
      const bucket = ['rate', '500mbit', 'burst', `${mtu + 100}`, 'limit', '16m', 'overhead', '15000'];
      await this.#ns.hub.exec(['tc', 'qdisc', 'add', 'dev', out, 'root', 'tbf', ...bucket]);
      const origin = await this.#index(endpoints[name].port);
      handles[name] = await this.#agent.request<number>({
        kind: 'attach',
        attachment: {
          object,
          constants: {
            cfg_seed: (options.seed + index * 0x9e37_79b9) >>> 0,
            cfg_drop: perMillion(options.drop),
            cfg_duplicate: perMillion(options.duplicate),
            cfg_reorder: perMillion(options.reorder),
            cfg_side: await this.#index(out),
            cfg_origin: origin,
          },
          hooks: [
            { program: 'lab_return', ifindex: await this.#index(back), direction: 'ingress' },
            { program: 'lab_impair', ifindex: origin, direction: 'ingress' },
          ],
        },
      });
    }
    this.#impair = handles;
  }

  /** Counters of the frames that this endpoint sent. */
  async impairCounters(from: 'client' | 'server'): Promise<ImpairCounters | undefined> {
    if (this.#impair === undefined) return undefined;
    const counts = await this.#read(this.#impair[from], 'impair_counts');
    const [seen = 0, dropped = 0, duplicated = 0, held = 0, returned = 0, , failed = 0] = counts;
    return { seen, dropped, duplicated, held, returned, failed };
  }

  /** Stamps frames as they enter the hub, for both taps. */
  async stamp(): Promise<void> {
    const entrances = [endpoints.client.port, endpoints.server.port, replayPort.port];
    const hooks: AgentAttachment['hooks'] = [];
    for (const port of entrances)
      hooks.push({ program: 'lab_stamp_in', ifindex: await this.#index(port), direction: 'ingress' });
    for (const name of mirrors)
      hooks.push({
        program: 'lab_stamp_out',
        ifindex: await this.#index(taps[name].port),
        direction: 'egress',
      });
    const constants = { cfg_offset_us: Math.round(realtimeOffset() * 1e6) };
    const attachment: AgentAttachment = { object: objectPath('lab_stamp'), constants, hooks };
    await this.#agent.request<number>({ kind: 'attach', attachment });
  }

  /** Puts what the mirror ports send into a tunnel. */
  async wrap({ headers, sources = 0 }: TunnelOptions): Promise<void> {
    const ip = new DataView(headers.buffer, headers.byteOffset + 14, 20);
    let sum = 0;
    // Without the length and the checksum, which are those of each packet.
    for (let at = 0; at < 20; at += 2) if (at !== 2 && at !== 10) sum += ip.getUint16(at);
    const padded = [...headers, ...new Uint8Array(TUNNEL_ROOM - headers.length)];
    for (const name of mirrors) {
      const attachment: AgentAttachment = {
        object: objectPath('lab_tunnel'),
        constants: { cfg_length: headers.length, cfg_sum: sum, cfg_sources: sources },
        bytes: { cfg_headers: padded },
        hooks: [{ program: 'lab_tunnel', ifindex: await this.#index(taps[name].port), direction: 'egress' }],
      };
      await this.#agent.request<number>({ kind: 'attach', attachment });
    }
  }

  /** Tags what the mirror ports send. */
  async tag(options: VlanOptions): Promise<void> {
    const object = objectPath('lab_vlan');
    const from = options.from ?? 'both';
    const handles = { a: -1, b: -1 };
    for (const name of mirrors) {
      handles[name] = await this.#agent.request<number>({
        kind: 'attach',
        attachment: {
          object,
          constants: {
            cfg_tags: options.outer === undefined ? 1 : 2,
            cfg_inner_tci: options.inner,
            cfg_outer_tci: options.outer ?? 0,
            cfg_from_first: from === 'server' ? 0 : await this.#index(endpoints.client.port),
            cfg_from_second: from === 'client' ? 0 : await this.#index(endpoints.server.port),
          },
          hooks: [{ program: 'lab_vlan', ifindex: await this.#index(taps[name].port), direction: 'egress' }],
        },
      });
    }
    this.#vlan = handles;
  }

  /** Ends the tagging. */
  async untag(): Promise<void> {
    for (const handle of Object.values(this.#vlan ?? {}))
      await this.#agent.request({ kind: 'detach', handle });
    this.#vlan = undefined;
  }

  /** Frames tagged at a mirror port and the bytes that the tags added. */
  async tagCounters(mirror: 'a' | 'b'): Promise<{ frames: number; bytes: number; failed: number }> {
    if (this.#vlan === undefined) return { frames: 0, bytes: 0, failed: 0 };
    const [frames = 0, bytes = 0, failed = 0] = await this.#read(this.#vlan[mirror], 'vlan_counts');
    return { frames, bytes, failed };
  }

  close(): Promise<void> {
    return this.#agent.close();
  }

  #read(handle: number, map: string): Promise<number[]> {
    return this.#agent.request<number[]>({ kind: 'read', handle, map });
  }

  async #index(ifname: string): Promise<number> {
    return (await linkStats(this.#ns.hub, ifname)).ifindex;
  }
}
