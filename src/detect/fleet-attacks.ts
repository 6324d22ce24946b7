import { atServer, type NatsPlace } from '../fleet/nats-place.ts';
import { type AttackDocument, attacksIn } from './attack-book.ts';
import { subjects } from './partition.ts';

/** The attacks of late that a fleet's detectors have told of. @throws SluiceError FLEET */
export async function fleetAttacks(place: NatsPlace): Promise<AttackDocument[]> {
  const help = 'has a detector been there (sluice detect --from)?';
  return await atServer(place, help, (connection) => attacksIn(connection, subjects(place.bucket).attacks));
}
