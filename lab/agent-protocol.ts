/** One object to load, with its constants and the places where its programs go. */
export interface AgentAttachment {
  /** Path of the object file. */
  object: string;
  constants: Record<string, number>;
  /** Constants that are arrays of bytes. */
  bytes?: Record<string, number[]>;
  hooks: { program: string; ifindex: number; direction: 'ingress' | 'egress' }[];
}

export type AgentRequest = { id: number } & (
  | { kind: 'attach'; attachment: AgentAttachment }
  | { kind: 'read'; handle: number; map: string }
  | { kind: 'detach'; handle: number }
);

/** `attach` answers a handle, `read` the map's elements in order. */
export interface AgentReply {
  id: number;
  value?: number | number[];
  error?: string;
  /** ErrorCode of the error, when it has one. */
  code?: string;
}
