import { run } from './process.ts';

/** Makes a self-signed certificate and its key (ECDSA P-256) in this directory. */
export async function makeCertificate(directory: string): Promise<{ key: string; certificate: string }> {
  const key = `${directory}/key.pem`;
  const certificate = `${directory}/certificate.pem`;
  const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];
  const name = ['-subj', '/CN=lab.example', '-addext', 'subjectAltName=DNS:lab.example'];
  await run(['openssl', 'req', '-x509', ...kind, ...name, '-keyout', key, '-out', certificate]);
  return { key, certificate };
}
