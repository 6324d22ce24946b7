import { run } from './process.ts';

/** Makes a self-signed certificate and its key (ECDSA P-256) in this directory. */
export async function makeCertificate(directory: string): Promise<{ key: string; certificate: string }> {
  const key = `${directory}/key.pem`;
  const certificate = `${directory}/certificate.pem`;
  await run([
    ...['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'],
    ...['-days', '2', '-subj', '/CN=lab.example', '-addext', 'subjectAltName=DNS:lab.example'],
    ...['-keyout', key, '-out', certificate],
  ]);
  return { key, certificate };
}
