// Runs inside the hub's namespace: attaches the lab's traffic-control programs there and holds their links, which go
// with it. Talks over the IPC channel of whoever started it, and ends with that.
import { asSluiceError } from '../src/base/errors.ts';
import { attachTcx, type BpfLink, type BpfObject, loadObject } from '../src/kernel/index.ts';
import type { AgentAttachment, AgentReply, AgentRequest } from './agent-protocol.ts';

const held: { object: BpfObject; links: BpfLink[] }[] = [];
const key = new Uint32Array(1);
const value = new BigUint64Array(1);

function attach(attachment: AgentAttachment): number {
  const { constants, bytes = {} } = attachment;
  const arrays = Object.entries(bytes).map(([name, array]) => [name, Uint8Array.from(array)] as const);
  const object = loadObject(attachment.object, {
    constants: { ...constants, ...Object.fromEntries(arrays) },
  });
  held.push({ object, links: [] });
  for (const { program, ifindex, direction } of attachment.hooks) {
    held.at(-1)?.links.push(attachTcx(object.program(program), ifindex, direction));
  }
  return held.length - 1;
}

/** The elements of an array map of 64-bit counters. */
function read(id: number, map: string): number[] {
  const handle = held[id]?.object.map(map);
  return Array.from({ length: handle?.maxEntries ?? 0 }, (_, index) => {
    key[0] = index;
    handle?.get(new Uint8Array(key.buffer), new Uint8Array(value.buffer));
    return Number(value[0]);
  });
}

function detach(id: number): void {
  const entry = held[id];
  for (const link of entry?.links ?? []) link.close();
  entry?.object.close();
}

function perform(request: AgentRequest): number | number[] {
  if (request.kind === 'attach') return attach(request.attachment);
  if (request.kind === 'read') return read(request.handle, request.map);
  detach(request.handle);
  return 0;
}

function answer(request: AgentRequest): AgentReply {
  try {
    return { id: request.id, value: perform(request) };
  } catch (error) {
    const { code, message } = asSluiceError(error);
    return { id: request.id, error: message, code };
  }
}

process.on('message', (request: AgentRequest) => process.send?.(answer(request)));
process.on('disconnect', () => process.exit(0));
