import { bpfObjectPath } from '../src/gate/kind.ts';
import { RulesSlot } from '../src/gate/layout.ts';
import { installOwn, occupy } from '../src/gate/slots.ts';
import { loadObject, XdpAction } from '../src/kernel/index.ts';
import { type Case, KEYS, packets } from './gate-case.ts';
import { GateTables, manyKeys } from './tables.ts';

/** The options of the gate, each alone: the constants that switch it on. */
const OPTIONS: Readonly<Record<string, Record<string, number>>> = {
  'VLANs in the key': { cfg_vlan_in_key: 1 },
  'pairs searched': { cfg_pairs: 1 },
  'pairs and a list of 64 prefixes searched': { cfg_pairs: 1, cfg_prefixes: 64 },
  'fragments follow': { cfg_fragments: 1 },
  'trace of another flow': { cfg_trace: 1 },
  'slot for rules, empty': { cfg_rules: 1 },
};
/** Written by hand, dropping what comes to a port that no packet has. */
const RULE = 'one rule in the slot';

const ENTRIES = 1000;
/** SL_TRACE_PORT_A of bpf/gate.h, and the number of a port that no packet has, in a row of trace_filter. */
const OTHER_FLOW = { parts: 8, port: 9 };

function traceOther(tables: GateTables): void {
  const row = new Uint8Array(tables.object.map('trace_filter').valueSize);
  const view = new DataView(row.buffer);
  view.setUint16(32, OTHER_FLOW.port);
  view.setUint16(34, OTHER_FLOW.port);
  view.setUint32(40, OTHER_FLOW.parts | (OTHER_FLOW.parts << 1), true);
  tables.object.map('trace_filter').set(new Uint8Array(4), row);
}

function putRule(tables: GateTables, stack: DisposableStack): void {
  const rules = tables.object.map('rules');
  const object = stack.use(
    loadObject(bpfObjectPath('test_rule'), {
      constants: { cfg_port: 1 },
      reuseMaps: { rules, scratch: tables.object.map('scratch') },
    }),
  );
  installOwn(rules, tables.object);
  occupy(rules, RulesSlot.entry, object.program('test_rule'));
}

/** Hit and miss of the gate with each option; what is made is the stack's. */
export function optionCases(path: string, stack: DisposableStack): Case[] {
  const hit = packets(true);
  const miss = packets(false);
  return Object.entries<Record<string, number>>({ ...OPTIONS, [RULE]: { cfg_rules: 1 } }).flatMap(
    ([name, constants]) => {
      const tables = stack.use(new GateTables(path, 4096, 4096, constants));
      tables.shunt(KEYS);
      tables.shunt(manyKeys(ENTRIES));
      if (name.startsWith('trace')) traceOther(tables);
      if (name === RULE) putRule(tables, stack);
      const program = tables.object.program('sluice_gate');
      const cases: Case[] = [
        { name: `hit, ${name}`, program, data: hit.ack, action: XdpAction.drop, floor: 'hit, IPv4 TCP' },
        { name: `miss, ${name}`, program, data: miss.ack, action: XdpAction.pass, floor: 'miss, IPv4 TCP' },
      ];
      if (constants['cfg_fragments'] === 1) {
        cases.push({
          name: 'hit, first fragment',
          program,
          data: hit.fragment,
          action: XdpAction.drop,
          floor: 'hit, IPv4 UDP',
        });
      }
      return cases;
    },
  );
}
