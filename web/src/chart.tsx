import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import type { Column } from './series.ts';

export interface Line {
  label: string;
  /** A custom property of the style sheet: `--passed`. */
  color: string;
  fill?: boolean;
}

export interface ChartProps {
  /** What it shows, for who cannot see it. */
  label: string;
  data: [number[], ...Column[]];
  lines: readonly Line[];
  /** Seconds that it is wide, or as many as there are; it ends with the latest point. */
  seconds: number;
  height: number;
  text: (value: number) => string;
  /** Times that are marked as bad. */
  marks?: readonly number[];
  /** The least that the scale reaches up to. */
  least?: number;
  theme: string;
}

/** Seconds that a chart shows at least. */
const LEAST_SPAN = 60;

const css = (name: string): string =>
  getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** A chart over time; filled lines are painted one over the other, so that the highest has to come first. */
export function Chart(props: ChartProps) {
  const { label, data, lines, height, theme } = props;
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>(undefined);
  const now = useRef(props);
  now.current = props;
  const names = lines.map((line) => line.label).join();

  useEffect(() => {
    const element = box.current;
    if (element === null) return undefined;
    const made = new uPlot(optionsOf(now, element.clientWidth), now.current.data, element);
    plot.current = made;
    const follow = new ResizeObserver(() => {
      if (element.clientWidth > 0) made.setSize({ width: element.clientWidth, height });
    });
    follow.observe(element);
    return () => {
      follow.disconnect();
      made.destroy();
      plot.current = undefined;
    };
  }, [height, theme, names]);

  useEffect(() => {
    plot.current?.setData(data);
  }, [data]);

  return <div class="chart" ref={box} role="img" aria-label={label} />;
}

function optionsOf(now: { current: ChartProps }, width: number): uPlot.Options {
  const { lines, height, text } = now.current;
  const axis: uPlot.Axis = {
    stroke: css('--dim'),
    grid: { stroke: css('--grid'), width: 1 },
    ticks: { show: false },
    font: '11px system-ui, sans-serif',
  };
  return {
    width,
    height,
    legend: { show: false },
    cursor: { points: { show: false }, drag: { x: false, y: false } },
    padding: [10, 8, 0, 0],
    scales: {
      x: {
        time: true,
        range: () => {
          const { data, seconds } = now.current;
          const last = data[0].at(-1) ?? Date.now() / 1000;
          // A run that has just begun fills what there is of it.
          return [last - Math.min(seconds, Math.max(LEAST_SPAN, last - (data[0][0] ?? last))), last];
        },
      },
      y: {
        range: (_, _min, max) => [
          0,
          Math.max(now.current.least ?? 1, (Number.isFinite(max) ? max : 0) * 1.08),
        ],
      },
    },
    axes: [
      {
        ...axis,
        size: 26,
        space: 70,
        values: (_, ticks) => ticks.map((t) => new Date(t * 1000).toLocaleTimeString('en-GB')),
      },
      {
        ...axis,
        size: 74,
        space: 34,
        values: (_, ticks) => ticks.map((value) => (value === 0 ? '0' : text(value))),
      },
    ],
    series: [
      {},
      ...lines.map((line): uPlot.Series => {
        const color = css(line.color);
        return {
          label: line.label,
          stroke: color,
          width: line.fill === true ? 1 : 1.6,
          points: { show: false },
          ...(line.fill === true ? { fill: color } : {}),
        };
      }),
    ],
    hooks: { draw: [(plot) => drawMarks(plot, now.current.marks ?? [])] },
  };
}

/** A red line from top to bottom with a flag, where packets were lost. */
function drawMarks(plot: uPlot, marks: readonly number[]): void {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.fillStyle = css('--lost');
  const flag = 5 * devicePixelRatio;
  for (const t of marks) {
    const x = Math.round(plot.valToPos(t, 'x', true));
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.globalAlpha = 0.35;
    ctx.fillRect(x - devicePixelRatio, bbox.top, 2 * devicePixelRatio, bbox.height);
    ctx.globalAlpha = 1;
    ctx.beginPath();
    ctx.moveTo(x - flag, bbox.top - flag);
    ctx.lineTo(x + flag, bbox.top - flag);
    ctx.lineTo(x, bbox.top + flag);
    ctx.fill();
  }
  ctx.restore();
}
