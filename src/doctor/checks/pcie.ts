import { bad, byHand, type Check, machineCheck, nicCheck, ok } from '../finding.ts';
import { PCIE_SHARE, pcieMbps } from '../knowledge.ts';
import { n } from '../view.ts';

const bandwidth = nicCheck('pcie.bandwidth', 'the bus carries what the links bring', (nic) => {
  const { pci } = nic;
  if (pci?.speed === undefined || pci.width === undefined) return undefined;
  const ports = pci.ports.reduce((sum, { mbps }) => sum + (mbps ?? 0), 0);
  const need = Math.max(ports, nic.mbps ?? 0);
  const has = pcieMbps(pci.speed, pci.width) * PCIE_SHARE;
  const text = `${pci.speed} GT/s × ${pci.width}: about ${n(has)} Mbit/s`;
  if (need <= has) return ok(`${text} for ${n(need)}`);
  const slot =
    (pci.maxWidth ?? 0) > pci.width || (pci.maxSpeed ?? 0) > pci.speed
      ? ` (the card could do ${pci.maxSpeed} GT/s × ${pci.maxWidth})`
      : '';
  return bad(
    'problem',
    `${text} for ${n(need)} of its ports${slot}`,
    'what the bus does not carry is lost in the card (port.rx_dropped, outbound_pci_buffer_overflow); some slots have fewer lanes than their length says',
    byHand('another slot, or one port of the card', 'host', 'the machine is opened'),
  );
});

const slot = nicCheck('pcie.width', 'the slot is as wide and fast as the card', (nic) => {
  const { pci } = nic;
  if (
    pci?.speed === undefined ||
    pci.width === undefined ||
    pci.maxSpeed === undefined ||
    pci.maxWidth === undefined
  )
    return undefined;
  const text = `${pci.speed} GT/s × ${pci.width}`;
  if (pci.width >= pci.maxWidth && pci.speed >= pci.maxSpeed) return ok(text);
  return bad(
    'note',
    `${text}, the card could do ${pci.maxSpeed} GT/s × ${pci.maxWidth}`,
    'a narrow slot, a riser, or a card that is not seated well; `pcie.bandwidth` says whether it is enough',
    byHand('another slot', 'host', 'the machine is opened'),
  );
});

const aspm = machineCheck('pcie.aspm', 'the bus does not sleep (ASPM)', ({ cpu, nics }) => {
  // Virtual machines have no links to put to sleep.
  if (cpu.aspm === undefined || !nics.some(({ pci }) => pci?.width !== undefined)) return undefined;
  if (cpu.aspm === 'performance') return ok('performance');
  return bad(
    'note',
    cpu.aspm,
    'a link that sleeps takes microseconds to wake up, in which the card has to hold what comes',
    {
      text: 'the policy performance',
      risk: 'host',
      riskText: 'all devices take some more power',
      changes: [
        { setting: { kind: 'file', path: '/sys/module/pcie_aspm/parameters/policy' }, value: 'performance' },
      ],
    },
  );
});

export const PCIE_CHECKS: readonly Check[] = [bandwidth, slot, aspm];
