import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SluiceError } from '../../src/base/errors.ts';
import { parseSuricata, reviewSuricata } from '../../src/doctor/sensors/suricata.ts';
import { parseNodeCfg, reviewZeek } from '../../src/doctor/sensors/zeek.ts';
import { but, server } from './fixtures/machines.ts';

const told = (findings: readonly { check: string; level: string; evidence: string }[]): string[] =>
  findings
    .filter(({ level }) => level !== 'ok')
    .map(({ check, level, evidence }) => `${level} ${check}: ${evidence}`);
const machine = server();
const [nic] = machine.nics;

const suricata = (yaml: string, at = machine) => reviewSuricata(yaml, 'suricata.yaml', at, at.nics[0]);

const withCpus = (cpus: string) =>
  `af-packet:\n  - interface: eth1\n    threads: 2\nthreading:\n  set-cpu-affinity: yes\n  cpu-affinity:\n    worker-cpu-set:\n      cpu: [ ${cpus} ]\n`;

const zeek = (text: string, at = machine) => reviewZeek(text, 'node.cfg', at, at.nics[0]);

const withMode = (mode: string) =>
  `[w]\ntype=worker\ninterface=af_packet::eth1\nlb_procs=2\npin_cpus=0,1\naf_packet_fanout_mode=AF_Packet::${mode}\n`;

describe('suricata.yaml', () => {
  it('the stanza that is printed has nothing left to say', () => {
    const { stanza } = suricata('');
    const review = suricata(`%YAML 1.1\n---\n${stanza}`);
    expect(told(review.findings)).toEqual([]);
    expect(stanza).toContain('threads: 4');
    expect(stanza).toContain('worker-cpu-set:\n      cpu: [ "0-3" ]');
  });

  it('an interface that is not there is a problem', () => {
    expect(told(suricata('af-packet:\n  - interface: eth9\n').findings)).toEqual([
      'problem suricata.interface: no entry of af-packet for eth1 (there are: eth9)',
    ]);
    expect(told(suricata('').findings)).toEqual([
      'problem suricata.interface: no entry of af-packet for eth1',
    ]);
  });

  it('what is left open, or goes against the card', () => {
    const yaml = `af-packet:
  - interface: eth1
    threads: auto
    cluster-id: 99
    cluster-type: cluster_flow
    defrag: no
    tpacket-v3: no
  - interface: eth2
    cluster-id: 99
  - interface: default
    use-mmap: yes
`;
    expect(told(suricata(yaml).findings)).toEqual([
      'note suricata.threads: threads: auto',
      'warning suricata.cluster: cluster_flow without defrag',
      'problem suricata.cluster-id: cluster-id 99 on eth1 and eth2',
      'note suricata.ring: tpacket-v3: no',
      'warning suricata.cpus: threading.set-cpu-affinity is off, or worker-cpu-set is all',
    ]);
  });

  it.each([
    [
      'the old form',
      'cpu-affinity:\n    - management-cpu-set:\n        cpu: [ 0 ]\n    - worker-cpu-set:\n        cpu: [ 4, 5 ]',
    ],
    ['the new form', 'cpu-affinity:\n    worker-cpu-set:\n      cpu: [ "4-5" ]'],
  ])('workers at the far node, in %s', (_, affinity) => {
    const yaml = `af-packet:\n  - interface: eth1\n    threads: 2\nthreading:\n  set-cpu-affinity: yes\n  ${affinity}\n`;
    expect(told(suricata(yaml).findings)).toEqual([
      'warning suricata.cpus: CPU 4-5 at another node than eth1',
    ]);
  });

  it('a CPU that does not exist, one that has interrupts', () => {
    expect(told(suricata(withCpus('0, 77')).findings)).toEqual([
      'problem suricata.cpus: CPU 77, which this machine does not have',
    ]);
    expect(told(suricata(withCpus('0, 8')).findings)).toEqual([
      'note suricata.cpus: CPU 8 has workers and interrupts of eth1',
    ]);
  });

  it('threads by queue need a symmetric hash, and one for each queue', () => {
    const yaml = 'af-packet:\n  - interface: eth1\n    threads: 4\n    cluster-type: cluster_qm\n';
    const of = (at = machine) =>
      told(suricata(yaml, at).findings).filter((text) => text.includes('suricata.cluster:'));
    expect(of()).toEqual([]);
    expect(
      of(
        but((_, each) => {
          if (each.rss !== undefined) each.rss.key = '6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b4';
        }),
      ),
    ).toEqual(['problem suricata.cluster: cluster_qm, but the receive hash of eth1 is not proven symmetric']);
    expect(
      of(
        but((_, each) => {
          if (each.channels !== undefined) each.channels.combined = 8;
        }),
      ),
    ).toEqual(['problem suricata.cluster: cluster_qm with 4 threads, eth1 has 8 queues']);
  });

  it('any text is YAML, or an error that says that it is not', () => {
    expect(() => parseSuricata('a: [', 'x.yaml')).toThrow(/x\.yaml is not YAML/);
    fc.assert(
      fc.property(fc.string({ maxLength: 200 }), (text) => {
        try {
          reviewSuricata(text, 'x.yaml', machine, nic);
        } catch (error) {
          expect(error).toBeInstanceOf(SluiceError);
        }
      }),
      { numRuns: 300 },
    );
  });
});

describe('node.cfg', () => {
  it('the stanza that is printed has nothing left to say', () => {
    const { stanza } = zeek('');
    expect(told(zeek(`[manager]\ntype=manager\nhost=localhost\n\n${stanza}`).findings)).toEqual([]);
    expect(stanza).toContain('pin_cpus=0,1,2,3');
  });

  it('what goes against the card', () => {
    const text = `# a comment
[worker-1]
type=worker
host=localhost
interface=eth1
lb_method=custom
lb_procs=12
af_packet_buffer_size=33554432

[worker-2]
type = worker
host = localhost
interface = af_packet::eth2
`;
    expect(told(zeek(text).findings)).toEqual([
      'problem zeek.interface: worker-1: interface=eth1, lb_method=custom',
      'warning zeek.processes: worker-1: lb_procs=12, 8 CPUs near eth1',
      'warning zeek.cpus: worker-1: pin_cpus is not set',
      'problem zeek.fanout-id: worker-1 and worker-2 have the fanout id 23',
      'note zeek.buffer: worker-1: af_packet_buffer_size=33554432',
    ]);
  });

  it('no worker there; modes by queue; a mode without a program', () => {
    expect(told(zeek('[zeek]\ntype=standalone\ninterface=eth7\n').findings)).toEqual([
      'problem zeek.interface: no worker on eth1 (there are: zeek on eth7)',
    ]);
    expect(told(zeek(withMode('FANOUT_QM')).findings)).toEqual([]);
    const skewed = but((_, each) => {
      each.hashFields = { tcp4: 's' };
    });
    expect(told(zeek(withMode('FANOUT_QM'), skewed).findings)).toEqual([
      'problem zeek.fanout-mode: w: AF_Packet::FANOUT_QM, but the receive hash of eth1 is not proven symmetric',
    ]);
    expect(told(zeek(withMode('FANOUT_EBPF')).findings)).toEqual([
      'note zeek.fanout-mode: w: AF_Packet::FANOUT_EBPF',
    ]);
  });

  it('any text is taken', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 300 }), (text) => {
        expect(parseNodeCfg(text).length).toBeLessThan(200);
        zeek(text);
      }),
    );
  });
});
