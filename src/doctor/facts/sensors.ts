import { type PacketSocket, packetSockets, parseCpuList } from '../../kernel/index.ts';
import type { FanoutFacts, SensorProcess } from '../machine.ts';
import type { Files } from './files.ts';

/** Packet sockets of one process that are looked for, and threads that are listed. */
const MOST_FDS = 4096;
const MOST_THREADS = 1024;

/** Of /proc/net/packet, where the kernel has no packet_diag: without fanout groups. */
export function packetTable(text: string): PacketSocket[] {
  return text
    .split('\n')
    .slice(1)
    .flatMap((line) => {
      const columns = line.trim().split(/\s+/);
      const ifindex = Number(columns[4]);
      const inode = Number(columns[8]);
      return Number.isInteger(ifindex) && Number.isInteger(inode) && inode > 0
        ? [{ inode, ifindex, fanout: undefined }]
        : [];
    });
}

function threads(files: Files, pid: string): SensorProcess['threads'] {
  return files
    .list(`/proc/${pid}/task`)
    .slice(0, MOST_THREADS)
    .map((id) => {
      const dir = `/proc/${pid}/task/${id}`;
      const list = /^Cpus_allowed_list:\s*(\S+)/m.exec(files.text(`${dir}/status`) ?? '')?.[1] ?? '';
      return { id: Number(id), name: files.text(`${dir}/comm`) ?? '', cpus: parseCpuList(list) ?? [] };
    });
}

export interface SensorFacts {
  sensors: SensorProcess[];
  groups: FanoutFacts['groups'];
  irqbalance: boolean;
}

/** Who listens to packets, in which fanout groups, and whether irqbalance runs. */
export function sensorFacts(files: Files): SensorFacts {
  const told = packetSockets();
  const sockets = new Map(
    (told ?? packetTable(files.text('/proc/net/packet') ?? '')).map((socket) => [socket.inode, socket]),
  );
  const names = new Map<number, string>();
  const sensors: SensorProcess[] = [];
  let irqbalance = false;
  for (const pid of files.list('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    const name = files.text(`/proc/${pid}/comm`) ?? '';
    if (name === 'irqbalance') irqbalance = true;
    // Of this process are those that the checks themselves make.
    if (sockets.size === 0 || Number(pid) === process.pid) continue;
    const interfaces = new Set<number>();
    for (const fd of files.list(`/proc/${pid}/fd`).slice(0, MOST_FDS)) {
      const inode = Number(/^socket:\[(\d+)\]$/.exec(files.link(`/proc/${pid}/fd/${fd}`) ?? '')?.[1] ?? 0);
      const socket = sockets.get(inode);
      if (socket === undefined) continue;
      interfaces.add(socket.ifindex);
      names.set(inode, `${name} (${pid})`);
    }
    if (interfaces.size > 0)
      sensors.push({ pid: Number(pid), name, interfaces: [...interfaces], threads: threads(files, pid) });
  }
  return { sensors, groups: told === undefined ? undefined : groupsOf(told, names), irqbalance };
}

/** The groups that sockets are in, with the processes that hold them. */
export function groupsOf(
  sockets: readonly PacketSocket[],
  names: ReadonlyMap<number, string>,
): NonNullable<FanoutFacts['groups']> {
  const groups = new Map<string, NonNullable<FanoutFacts['groups']>[number]>();
  for (const { inode, ifindex, fanout } of sockets) {
    if (fanout === undefined) continue;
    const key = `${fanout.id}/${fanout.mode}`;
    const group = groups.get(key) ?? { ...fanout, interfaces: [], processes: [] };
    if (!group.interfaces.includes(ifindex)) group.interfaces.push(ifindex);
    const name = names.get(inode);
    if (name !== undefined && !group.processes.includes(name)) group.processes.push(name);
    groups.set(key, group);
  }
  return [...groups.values()];
}
