/** What the sender of a gate's traffic is asked; each is answered by what it has sent. */
export type ToSender =
  | { readonly kind: 'start' | 'sent' | 'peace'; readonly attack?: undefined }
  | { readonly kind: 'attack'; readonly attack: string };

/** Packets, but for those that a rule of the lab is for. */
export interface Sent {
  usual: number;
  attack: number;
}
