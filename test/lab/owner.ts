// A process with a lab that is busy in every way, for the test that kills it. Says what there is, then carries on.
import { createLab, mixedPlan, runTraffic } from '../../lab/index.ts';

const lab = await createLab({ impair: { seed: 1, drop: 0.001 } });
const names = ['client', 'server', 'hub', 'tapA', 'tapB', 'replay'] as const;
lab.spawn('tapA', ['tcpdump', '-i', lab.tap('a').ifname, '-w', '/dev/null'], { stdio: 'ignore' });
let said = false;
await runTraffic(
  lab,
  { ...mixedPlan(), repeatSeconds: 60 },
  {
    onProgress: () => {
      if (said) return;
      said = true;
      const inodes = names.map((name) => lab.namespace(name).inode);
      process.stdout.write(`${JSON.stringify({ inodes, directory: lab.directory })}\n`);
    },
  },
);
