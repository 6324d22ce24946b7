import type { ChildProcess, SpawnOptions } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SluiceError } from '../src/base/errors.ts';
import { makeCertificate } from './certificate.ts';
import { type MirrorCounters, mirrorCounters } from './counters.ts';
import { Namespace, processesIn } from './namespace.ts';
import { objectPath } from './objects.ts';
import {
  type LabOptions,
  type NamespaceName,
  type ResolvedOptions,
  resolveOptions,
  type TapName,
  type VlanOptions,
} from './options.ts';
import type { CommandResult, RunOptions } from './process.ts';
import { HubPrograms, type ImpairCounters } from './programs.ts';
import { type ReplayOptions, type ReplayResult, replay } from './replay.ts';
import { build, type Namespaces, tapNamespace, taps } from './topology.ts';
import { Worker } from './worker.ts';

/** Where to listen for what the lab carries. */
export interface Tap {
  name: TapName;
  namespace: NamespaceName;
  /** Of the process that holds the namespace. */
  pid: number;
  /** Path of the namespace, for `nsenter --net=` and setns(2). */
  netns: string;
  ifname: string;
}

/** Of the directories in the temporary folder; the number of the owning process follows. */
const DIRECTORY = 'sluice-lab-';

const namespaceNames: readonly NamespaceName[] = ['client', 'server', 'hub', 'tapA', 'tapB', 'replay'];

/** Milliseconds that processes which someone else has put into the lab get to end after it, on a busy machine too. */
const LEAVING_MS = 20_000;

/**
 * A test network on this machine: a client and a server behind a hub, and two taps that each see every frame between
 * them, in the same order. It lives in network namespaces that end with this process, however that ends.
 */
export class Lab {
  readonly options: ResolvedOptions;
  /** A directory of its own for certificates, sockets and the like; removed with the lab. */
  readonly directory: string;
  readonly #ns: Namespaces;
  #programs: HubPrograms | undefined;
  #server: Worker | undefined;
  #client: Worker | undefined;
  #closing: Promise<void> | undefined;

  /** Use createLab. */
  constructor(options: ResolvedOptions, directory: string, namespaces: Namespaces) {
    this.options = options;
    this.directory = directory;
    this.#ns = namespaces;
  }

  /** @throws SluiceError CLOSED after `close` */
  namespace(name: NamespaceName): Namespace {
    if (this.#closing !== undefined) throw new SluiceError('CLOSED', 'the lab has been taken down');
    return this.#ns[name];
  }

  tap(name: TapName): Tap {
    const namespace = tapNamespace(name, this.options);
    const { pid, path } = this.namespace(namespace);
    return { name, namespace, pid, netns: path, ifname: taps[name].ifname };
  }

  /** Runs a command in a namespace to its end. @throws SluiceError LAB when it fails */
  exec(name: NamespaceName, argv: readonly string[], options?: RunOptions): Promise<CommandResult> {
    return this.namespace(name).exec(argv, options);
  }

  /** Starts a command in a namespace; it ends with the lab, or with this process. */
  spawn(name: NamespaceName, argv: readonly string[], options?: SpawnOptions): ChildProcess {
    return this.namespace(name).spawn(argv, options);
  }

  /** What the mirror port in front of a tap has sent since the lab was made. */
  async mirrorCounters(name: TapName): Promise<MirrorCounters> {
    const pushed = (await this.#programs?.tagCounters(name))?.bytes ?? 0;
    return mirrorCounters(this.namespace('hub'), taps[name].port, pushed);
  }

  /** Gives a tap the XDP program that passes everything, or takes it away (see LabOptions.passOn). */
  async setPass(name: TapName, on: boolean): Promise<void> {
    const what = on ? ['obj', objectPath('lab_pass'), 'sec', 'xdp.frags'] : ['off'];
    const { namespace, ifname } = this.tap(name);
    await this.exec(namespace, ['ip', 'link', 'set', 'dev', ifname, 'xdpdrv', ...what]);
  }

  /** Tags what the taps see from now on, in place of what tagged it before; undefined ends it. */
  async setVlan(options: VlanOptions | undefined): Promise<void> {
    await this.#programs?.untag();
    if (options !== undefined)
      await this.#hubPrograms().tag(resolveOptions({ vlan: options }).vlan as VlanOptions);
  }

  /** What the impairment did to the frames that this endpoint sent; undefined without an impairment. */
  async impairCounters(from: 'client' | 'server'): Promise<ImpairCounters | undefined> {
    return this.#programs?.impairCounters(from);
  }

  /** Sends a capture file to both taps. */
  replay(file: string, options?: ReplayOptions): Promise<ReplayResult> {
    return replay(this, file, options);
  }

  /** The process with the servers, started when first asked for. */
  async server(): Promise<Worker> {
    if (this.#server === undefined) {
      const { key, certificate } = await makeCertificate(this.directory);
      this.#server = new Worker(this.namespace('server'), 'server', [key, certificate]);
      await this.#server.request({ kind: 'ready' });
    }
    return this.#server;
  }

  /** The process with the clients, started when first asked for. */
  client(): Worker {
    this.#client ??= new Worker(this.namespace('client'), 'client', [this.directory]);
    return this.#client;
  }

  /** Closes what runTraffic left open. */
  async endTraffic(): Promise<void> {
    const [client, server] = [this.#client, this.#server];
    this.#client = undefined;
    this.#server = undefined;
    await client?.close();
    await server?.close();
  }

  /** Takes the lab down and makes sure that nothing of it is left. @throws SluiceError LAB when others hold on to it */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Attaches what the options ask for; part of createLab. */
  async prepare(): Promise<void> {
    await build(this.#ns, this.options);
    for (const name of this.options.passOn) await this.setPass(name, true);
    if (this.options.impair !== undefined)
      await this.#hubPrograms().impair(this.options.impair, this.options.mtu);
    // Behind the impairment, which takes and sends frames anew.
    if (this.options.oneStamp) await this.#hubPrograms().stamp();
    if (this.options.vlan !== undefined) await this.setVlan(this.options.vlan);
    if (this.options.tunnel !== undefined) await this.#hubPrograms().wrap(this.options.tunnel);
  }

  #hubPrograms(): HubPrograms {
    this.#programs ??= new HubPrograms(this.#ns);
    return this.#programs;
  }

  async #close(): Promise<void> {
    const namespaces = Object.values(this.#ns);
    await Promise.all([
      ...namespaces.map((ns) => ns.close()),
      rm(this.directory, { recursive: true, force: true }),
    ]);
    const inodes = new Set(namespaces.map((ns) => ns.inode));
    const deadline = performance.now() + LEAVING_MS;
    let left = processesIn(inodes);
    while (left.length > 0 && performance.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      left = processesIn(inodes);
    }
    if (left.length > 0) {
      throw new SluiceError('LAB', `processes are still in the lab's namespaces: ${left.join(', ')}`, {
        help: 'they were not started by the lab: end them, and the namespaces go away',
      });
    }
  }
}

/**
 * Makes a test network (about a second). Dispose it, or let it go with the process.
 * @throws SluiceError USAGE for bad options, PRIVILEGE without the rights, LAB when a step fails
 */
export async function createLab(options: LabOptions = {}): Promise<Lab> {
  const resolved = resolveOptions(options);
  const made: Partial<Namespaces> = {};
  try {
    await Promise.all(
      namespaceNames.map(async (name) => {
        made[name] = await Namespace.create(name);
      }),
    );
  } catch (error) {
    await Promise.all(Object.values(made).map((ns) => ns.close()));
    throw error;
  }
  await sweep();
  const directory = await mkdtemp(join(tmpdir(), `${DIRECTORY}${process.pid}-`));
  const lab = new Lab(resolved, directory, made as Namespaces);
  try {
    await lab.prepare();
  } catch (error) {
    await lab.close();
    throw error;
  }
  return lab;
}

/** Removes directories of labs whose process was killed: all that such a one leaves. */
async function sweep(): Promise<void> {
  for (const entry of await readdir(tmpdir())) {
    const pid = entry.startsWith(DIRECTORY) ? entry.slice(DIRECTORY.length).split('-')[0] : undefined;
    if (pid === undefined || !/^\d+$/.test(pid) || existsSync(`/proc/${pid}`)) continue;
    await rm(join(tmpdir(), entry), { recursive: true, force: true });
  }
}
