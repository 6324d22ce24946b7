import { SluiceError } from '../base/errors.ts';
import { ipBytes } from '../packet/address.ts';
import type { Veto } from './expression.ts';

/**
 * What must never be touched, as a person writes it: `192.0.2.1`, `2001:db8::/32`, `tcp/22`, `192.0.2.1,tcp/22`.
 * @throws SluiceError USAGE
 */
export function parseVeto(text: string): Veto {
  const veto: { -readonly [K in keyof Veto]: Veto[K] } = {};
  for (const part of text.split(',')) {
    const service = /^(tcp|udp)\/(\d{1,5})$/.exec(part);
    if (service !== null && Number(service[2]) > 0 && Number(service[2]) < 65_536) {
      veto.protocol = service[1] === 'tcp' ? 'tcp' : 'udp';
      veto.port = Number(service[2]);
      continue;
    }
    const [address, length] = part.split('/');
    const bytes = ipBytes(address);
    const family = bytes?.length === 4 ? 4 : 6;
    const whole = family === 4 ? 32 : 128;
    const bits = length === undefined ? whole : /^\d{1,3}$/.test(length) ? Number(length) : -1;
    if (bytes === undefined || bits < 0 || bits > whole)
      throw new SluiceError('USAGE', `veto ${text}: '${part}' is no address, prefix or service`, {
        help: 'write 192.0.2.1, 2001:db8::/32, tcp/22 or 192.0.2.1,tcp/22',
      });
    const view = new DataView(new ArrayBuffer(16));
    for (const [at, byte] of bytes.entries()) view.setUint8(16 - bytes.length + at, byte);
    const words = Uint32Array.from({ length: 4 }, (_, i) => view.getUint32(4 * i));
    veto.host = { family, words, bits };
  }
  return veto;
}

/** The connection that an operator has come by, which must not be touched (sshd sets SSH_CONNECTION). */
export function operatorVetoes(env: NodeJS.ProcessEnv): string[] {
  const [client, , , port] = (env['SSH_CONNECTION'] ?? '').split(' ');
  return client === undefined || port === undefined || ipBytes(client) === undefined
    ? []
    : [`${client},tcp/${port}`];
}
