/** A receiver of `sluice bench udp`, in a thread on one CPU: counts, and looks at what a sensor would look at. */
import { createSocket } from 'node:dgram';
import { parentPort, workerData } from 'node:worker_threads';
import { setThreadAffinity, type UdpImplementation, UdpReceiver } from '../src/kernel/index.ts';
import { cpuSeconds } from './measure.ts';

export interface ReceiverSetup {
  kind: UdpImplementation | 'dgram';
  address: string;
  cpu: number;
}

/** Since it began. */
export interface Received {
  packets: number;
  cpuNs: number;
  /** Of what was looked at, so that looking is not left out. */
  sum: number;
}

const { kind, address, cpu } = workerData as ReceiverSetup;
if (cpu >= 0) setThreadAffinity(cpu);
let packets = 0;
let sum = 0;
let latest = 0;

function tell(port: number): void {
  parentPort?.on('message', () => {
    const received: Received = { packets, cpuNs: cpuSeconds() * 1e9, sum: sum + latest };
    parentPort?.postMessage(received);
  });
  parentPort?.postMessage(port);
}

function byDgram(): void {
  const socket = createSocket('udp4');
  socket.on('message', (message) => {
    packets++;
    sum += message.length + message[0];
  });
  socket.bind({ address, port: 0 }, () => {
    socket.setRecvBufferSize(4 << 20);
    tell(socket.address().port);
  });
}

function byReceiver(implementation: UdpImplementation): void {
  const receiver = new UdpReceiver({ address, port: 0, implementation });
  const u8 = new Uint8Array(receiver.memory);
  const { offsets, lengths, times } = receiver;
  receiver.onReadable(() => {
    do {
      const rows = receiver.receive();
      for (let row = 0; row < rows; row++) {
        sum += lengths[row] + u8[offsets[row]];
        latest = times[row];
      }
      packets += rows;
    } while (!receiver.empty);
  });
  tell(receiver.port);
}

if (kind === 'dgram') byDgram();
else byReceiver(kind);
