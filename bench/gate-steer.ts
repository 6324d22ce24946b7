import { loadGate } from '../src/gate/load.ts';
import { makeQueues, onlineCpus, steerConstants, steerOptions } from '../src/gate/steer.ts';
import { possibleCpus, XdpAction } from '../src/kernel/index.ts';
import { eth } from '../src/packet/build.ts';
import { type Case, packets } from './gate-case.ts';

/** Datagrams of which the first fragment leaves a note each time. */
const FRAGMENT = { id: 7, fragment: { offset: 0, more: true } } as const;

/**
 * The gate that hands what passes to CPUs: up to the redirection, and what runs at the CPU that the packet goes to. Between the
 * two is the kernel's own queue, which a test run does not go through.
 */
export function steerCases(path: string, stack: DisposableStack): Case[] {
  const cpus = onlineCpus().slice(0, 2);
  const open = (steering: boolean) => {
    const steer = { cpus, queue: 1024, tagged: true };
    const { mapSizes, programs } = steerOptions(steer, false);
    const object = loadGate(path, {
      constants: steering ? steerConstants(steer) : {},
      mapSizes: { flows4: 4096, flows6: 4096, ledger: possibleCpus(), ...mapSizes },
      // One that is for a queue cannot be run for a test.
      programs: steering ? programs : { ...programs, sluice_arrived: { expectedAttachType: 0 } },
    });
    stack.use(object);
    if (steering) makeQueues(object, steer);
    return object;
  };
  const on = open(true);
  const off = open(false);
  const miss = packets(false);
  const program = on.program('sluice_gate');
  const first = eth()
    .ipv4({ src: '10.0.0.1', dst: '10.0.0.2', ...FRAGMENT })
    .udp({ sport: 1, dport: 2, length: 2000 })
    .payload(1200)
    .bytes();
  const steered = { program, action: XdpAction.redirect };
  return [
    {
      name: 'miss, object that steers, off',
      program: off.program('sluice_gate'),
      data: miss.ack,
      action: XdpAction.pass,
      floor: 'miss, IPv4 TCP',
    },
    { ...steered, name: 'miss, steered, IPv4 TCP', data: miss.ack, floor: 'miss, IPv4 TCP' },
    { ...steered, name: 'miss, steered, IPv6 TCP', data: miss.ack6, floor: 'miss, IPv6 TCP' },
    { ...steered, name: 'miss, steered, first fragment', data: first, floor: 'miss, IPv4 UDP' },
    {
      name: 'counted where it was steered to',
      program: off.program('sluice_arrived'),
      data: miss.ack,
      action: XdpAction.pass,
      floor: 'bare pass',
    },
  ];
}
