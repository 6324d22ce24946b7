import { SluiceError } from '../base/errors.ts';
import type { Request } from './control-protocol.ts';
import type { Conversation } from './control-server.ts';
import type { AuditLine } from './daemon-audit.ts';
import type { RuleKeeper } from './daemon-rules.ts';

/** What clients ask of the rules of a gate, and the end of those whose time is over, each with its line in the audit log. */
export class RuleRequests {
  readonly #rules: RuleKeeper;
  readonly #audit: { write(line: AuditLine): void };

  constructor(rules: RuleKeeper, audit: { write(line: AuditLine): void }) {
    this.#rules = rules;
    this.#audit = audit;
  }

  async expire(): Promise<void> {
    for (const { id, dropped } of await this.#rules.expire())
      this.#audit.write({ op: 'rule.end', key: id, reason: 'expired', pkts: dropped.pkts });
  }

  /** `rule.…`; who may change them is the caller's to say. */
  async perform(request: Request, conversation: Conversation): Promise<unknown> {
    const { uid, pid } = conversation.peer;
    const note = (ids: readonly string[], why: string | undefined): void => {
      for (const key of ids) this.#audit.write({ op: request.op, uid, pid, key, why });
    };
    switch (request.op) {
      case 'rule.add': {
        const result = await this.#rules.add(request);
        note(result.added, request.why);
        return result;
      }
      case 'rule.remove': {
        const result = await this.#rules.remove(request);
        note(request.ids, request.why);
        return result;
      }
      case 'rule.switch': {
        const result = await this.#rules.switch(request);
        note(request.ids, request.why ?? (request.on ? 'on' : 'off'));
        return result;
      }
      case 'rule.list': {
        const rows = this.#rules.rows();
        for (let from = 0; from < rows.length; from += request.page)
          await conversation.page(rows.slice(from, from + request.page));
        return { rules: rows.length };
      }
      default:
        throw new SluiceError('INTERNAL', `no work for ${request.op}`);
    }
  }
}
