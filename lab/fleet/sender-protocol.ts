/** What the sender of a gate's traffic is asked; each is answered by what it has sent. */
export interface ToSender {
  readonly kind: 'start' | 'hold' | 'go' | 'attack' | 'peace';
}

/** Packets, but for those that a rule of the lab is for. */
export interface Sent {
  usual: number;
  attack: number;
}
