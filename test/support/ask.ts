import { get } from 'node:http';

/** What the API of a run says at a path, over its socket. */
export async function asked(socketPath: string, path: string): Promise<string> {
  return await new Promise((resolve, reject) => {
    get({ socketPath, path }, (response) => {
      let text = '';
      response.on('data', (data: Buffer) => (text += data.toString()));
      response.on('end', () => resolve(text));
      response.on('error', reject);
    }).on('error', reject);
  });
}
