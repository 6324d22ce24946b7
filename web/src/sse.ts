/** Server-sent events from a body that is read by fetch, which can send a token; EventSource cannot. */

export interface ServerEvent {
  event: string;
  data: string;
}

/** An event longer than this is no event of ours. */
const LONGEST = 1 << 20;

export class EventParser {
  #rest = '';

  /** The events that are complete with this piece. @throws Error when one does not end */
  push(text: string): ServerEvent[] {
    const parts = (this.#rest + text).replaceAll('\r', '').split('\n\n');
    this.#rest = parts.pop() ?? '';
    if (this.#rest.length > LONGEST) throw new Error('an event does not end');
    return parts.map(eventOf).filter(({ data }) => data !== '');
  }
}

function eventOf(text: string): ServerEvent {
  let event = 'message';
  const data: string[] = [];
  for (const line of text.split('\n')) {
    const at = line.indexOf(':');
    const value = line.slice(at + 1).replace(/^ /, '');
    if (line.slice(0, at) === 'event') event = value;
    else if (line.slice(0, at) === 'data') data.push(value);
  }
  return { event, data: data.join('\n') };
}
