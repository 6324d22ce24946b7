import type { Machine, Nic } from './machine.ts';
import { nodesOf, pinnedWorkers, type WorkerThread } from './view.ts';

/** The way of packets through a machine: card → node → queue → interrupt → CPU → workers there. */
export interface QueueWay {
  queue: number;
  irq: number | undefined;
  /** CPUs that the interrupt goes to. */
  cpus: { id: number; node: number; core: string; far: boolean; workers: WorkerThread[] }[];
}

export interface NicMap {
  name: string;
  driver: string;
  mbps: number | undefined;
  node: number | undefined;
  queues: QueueWay[];
  /** Pinned workers on CPUs that no interrupt of the card goes to. */
  elsewhere: (WorkerThread & { node: number; far: boolean })[];
  /** Sensors that listen and are not pinned. */
  free: { pid: number; name: string; threads: number }[];
}

function nicMap(machine: Machine, nic: Nic): NicMap {
  const several = nodesOf(machine).length > 1;
  const node = nic.pci?.node;
  const cpuOf = (id: number) => machine.cpu.list.find((cpu) => cpu.id === id);
  const far = (id: number): boolean => several && node !== undefined && cpuOf(id)?.node !== node;
  const workers = pinnedWorkers(machine, nic);
  const queues = nic.queues.map(({ queue, irq, affinity, effective }) => ({
    queue,
    irq,
    cpus: (effective.length > 0 ? effective : affinity).map((id) => ({
      id,
      node: cpuOf(id)?.node ?? 0,
      core: (cpuOf(id)?.siblings ?? [id]).join('+'),
      far: far(id),
      workers: workers.filter(({ cpu }) => cpu === id),
    })),
  }));
  const used = new Set(queues.flatMap(({ cpus }) => cpus.map(({ id }) => id)));
  return {
    name: nic.name,
    driver: nic.driver,
    mbps: nic.mbps,
    node,
    queues,
    elsewhere: workers
      .filter(({ cpu }) => !used.has(cpu))
      .map((worker) => ({ ...worker, node: cpuOf(worker.cpu)?.node ?? 0, far: far(worker.cpu) })),
    free: machine.sensors
      .filter(
        ({ interfaces, threads }) =>
          (interfaces.includes(nic.index) || interfaces.includes(0)) &&
          !threads.some(({ cpus }) => cpus.length === 1),
      )
      .map(({ pid, name, threads }) => ({ pid, name, threads: threads.length })),
  };
}

export const mapOf = (machine: Machine): NicMap[] => machine.nics.map((nic) => nicMap(machine, nic));

/** `Suricata-Main (700) W#01-eth1`. */
export const workerText = ({ process, pid, name }: WorkerThread): string =>
  name === process ? `${process} (${pid})` : `${process} (${pid}) ${name}`;

export function mapText(maps: readonly NicMap[]): string {
  const lines: string[] = [];
  for (const map of maps) {
    const rate = map.mbps === undefined ? '' : `, ${map.mbps.toLocaleString('en-US')} Mbit/s`;
    lines.push(`${map.name}  (${map.driver}${rate})  node ${map.node ?? '–'}`);
    const ways = map.queues.flatMap(({ queue, irq, cpus }) =>
      cpus.map(
        (cpu) =>
          `queue ${String(queue).padStart(2)} → irq ${String(irq ?? '–').padStart(4)} → CPU ${String(cpu.id).padStart(3)} (core ${cpu.core}, node ${cpu.node})${
            cpu.far ? ' FAR' : ''
          }${cpu.workers.length === 0 ? '' : ` → ${cpu.workers.map(workerText).join(', ')}`}`,
      ),
    );
    const rest = [
      ...map.elsewhere.map(
        (worker) =>
          `CPU ${String(worker.cpu).padStart(3)} (node ${worker.node})${worker.far ? ' FAR' : ''} → ${workerText(worker)}`,
      ),
      ...map.free.map(
        ({ pid, name, threads }) => `any CPU → ${name} (${pid}), ${threads} threads, not pinned`,
      ),
    ];
    const all = [...(ways.length === 0 ? ['its interrupts are not known'] : ways), ...rest];
    all.forEach((line, i) => {
      lines.push(`${i === all.length - 1 ? ' └ ' : ' ├ '}${line}`);
    });
    lines.push('');
  }
  return lines.join('\n');
}

const ROW = 26;
const COLUMNS = { nic: 10, queue: 190, irq: 290, cpu: 390, worker: 560 } as const;
const WIDTH = 900;
const escape = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');

interface Box {
  x: number;
  y: number;
  width: number;
  text: string;
  kind: 'nic' | 'queue' | 'irq' | 'cpu' | 'far' | 'worker';
}

/** The same as a picture, in colours that hold on light and dark. */
export function mapSvg(maps: readonly NicMap[]): string {
  const boxes: Box[] = [];
  const lines: [Box, Box][] = [];
  let y = 44;
  for (const map of maps) {
    const top = y;
    const nic: Box = {
      x: COLUMNS.nic,
      y: top,
      width: 150,
      kind: 'nic',
      text: `${map.name}, node ${map.node ?? '–'}`,
    };
    boxes.push(nic);
    const cpuBox = (id: number, node: number, far: boolean): Box => ({
      x: COLUMNS.cpu,
      y,
      width: 130,
      kind: far ? 'far' : 'cpu',
      text: `CPU ${id}, node ${node}`,
    });
    const workerBox = (text: string): Box => ({ x: COLUMNS.worker, y, width: 320, kind: 'worker', text });
    for (const { queue, irq, cpus } of map.queues) {
      const first: Box = { x: COLUMNS.queue, y, width: 70, kind: 'queue', text: `queue ${queue}` };
      const second: Box = { x: COLUMNS.irq, y, width: 70, kind: 'irq', text: `irq ${irq ?? '–'}` };
      boxes.push(first, second);
      lines.push([nic, first], [first, second]);
      if (cpus.length === 0) y += ROW;
      for (const cpu of cpus) {
        const third = cpuBox(cpu.id, cpu.node, cpu.far);
        boxes.push(third);
        lines.push([second, third]);
        if (cpu.workers.length === 0) y += ROW;
        for (const worker of cpu.workers) {
          const fourth = workerBox(workerText(worker));
          boxes.push(fourth);
          lines.push([third, fourth]);
          y += ROW;
        }
      }
    }
    for (const worker of map.elsewhere) {
      const cpu = cpuBox(worker.cpu, worker.node, worker.far);
      const box = workerBox(workerText(worker));
      boxes.push(cpu, box);
      lines.push([cpu, box]);
      y += ROW;
    }
    for (const { name, pid, threads } of map.free) {
      boxes.push(workerBox(`${name} (${pid}), ${threads} threads, not pinned`));
      y += ROW;
    }
    y = Math.max(y, top + ROW) + 14;
  }
  const middle = ({ y: at }: Box): number => at + 10;
  const paths = lines
    .map(
      ([a, b]) =>
        `<path d="M${a.x + a.width} ${middle(a)} C${b.x - 12} ${middle(a)} ${a.x + a.width + 12} ${middle(b)} ${b.x} ${middle(b)}"/>`,
    )
    .join('');
  const shapes = boxes
    .map(
      (box) =>
        `<g class="${box.kind}"><rect x="${box.x}" y="${box.y}" width="${box.width}" height="20" rx="4"/><text x="${box.x + 8}" y="${box.y + 14}">${escape(box.text)}</text></g>`,
    )
    .join('\n');
  const heads = (
    [
      [COLUMNS.nic, 'card'],
      [COLUMNS.queue, 'queue'],
      [COLUMNS.irq, 'interrupt'],
      [COLUMNS.cpu, 'CPU'],
      [COLUMNS.worker, 'workers there'],
    ] as const
  )
    .map(([x, text]) => `<text class="head" x="${x}" y="26">${text}</text>`)
    .join('');
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${y}" viewBox="0 0 ${WIDTH} ${y}" role="img" aria-label="Ways of packets">
<style>
svg{background:#fff;color:#222}text{font:12px system-ui,sans-serif;fill:#222}.head{font-weight:600}
rect{fill:#eef2f7;stroke:#8a99ad}path{fill:none;stroke:#8a99ad}
.nic rect{fill:#dbe9ff}.cpu rect{fill:#e2f3e4}.worker rect{fill:#fff3d6}.far rect{fill:#ffd9d6;stroke:#c0392b}
@media (prefers-color-scheme:dark){svg{background:#14181f;color:#e6e9ee}text{fill:#e6e9ee}rect{fill:#232b36;stroke:#5d6b7e}
.nic rect{fill:#1d3558}.cpu rect{fill:#1d3d28}.worker rect{fill:#4a3a12}.far rect{fill:#5b211c;stroke:#e57368}}
</style>
${heads}
${paths}
${shapes}
</svg>
`;
}
