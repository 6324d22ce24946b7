import { Kvm } from '@nats-io/kv';
import { SluiceError } from '../base/errors.ts';
import { connectOnce, type NatsPlace } from '../fleet/nats-place.ts';
import { type AttackDocument, attacksIn } from './attack-book.ts';
import { subjects } from './partition.ts';

/** The attacks of late that a fleet's detectors have told of. @throws SluiceError FLEET */
export async function fleetAttacks(place: NatsPlace): Promise<AttackDocument[]> {
  try {
    const connection = await connectOnce(place);
    try {
      return await attacksIn(await new Kvm(connection).open(subjects(place.bucket).attacks));
    } finally {
      await connection.close().catch(() => {});
    }
  } catch (cause) {
    throw new SluiceError('FLEET', `${place.name} does not tell of attacks`, {
      cause,
      help: 'has a detector been there (sluice detect --from)?',
    });
  }
}
