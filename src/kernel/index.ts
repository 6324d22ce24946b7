/** The only door to native code and the kernel: objects, maps, programs, links, rings, sockets; errno as advice. */
export { packageRoot } from './addon.ts';
export {
  compileFilter,
  linkTypeName,
  linkTypeValue,
  runClassicFilter,
  runClassicFilterBatch,
} from './classic.ts';
export {
  AttachType,
  Fanout,
  FanoutFlag,
  LinkType,
  MapFlag,
  MapType,
  ProgramFlag,
  ProgramType,
  TPacket3,
  UpdateFlag,
  XdpAction,
} from './constants.ts';
export { errnoName, KernelError, type Operation, VerifierError } from './errors.ts';
export {
  type ChannelCounts,
  type Coalescing,
  channelCounts,
  coalescing,
  type DriverInfo,
  deviceFeatures,
  driverCounters,
  driverInfo,
  type FeatureState,
  HashFlow,
  type HashFlowName,
  hashFields,
  linkSpeed,
  type PauseFrames,
  pauseFrames,
  privateFlags,
  type RingSizes,
  type RssSettings,
  ringSizes,
  rssSettings,
  ruleCount,
  setChannels,
  setCoalescing,
  setFeature,
  setHashFields,
  setPauseFrames,
  setPrivateFlag,
  setRss,
  setRxRing,
} from './ethtool.ts';
export { type FanoutOptions, FanoutPlace } from './fanout.ts';
export {
  bringUp,
  findInterface,
  type InterfaceAddress,
  type InterfaceCounters,
  type InterfaceInfo,
  type InterfaceRoute,
  interfaceCounters,
  interfaceInfo,
  interfaceState,
  interfaces,
  rxQueues,
} from './interfaces.ts';
export { c1Latency, type IdleState, idleStates, LatencyRequest } from './latency.ts';
export {
  attachComponent,
  type Component,
  detachComponent,
  libxdpMissing,
  probeComponents,
} from './libxdp.ts';
export {
  attachTcx,
  attachXdp,
  BpfLink,
  type LinkInfo,
  programInfo,
  type XdpAttachment,
  type XdpAttachOptions,
  type XdpMode,
  xdpAttachment,
} from './link.ts';
export { BatchCursor, BpfMap, type MapOptions } from './map.ts';
export { type XdpFeatures, xdpFeatures } from './netdev.ts';
export { FLOW_SPEC, NicRules } from './nic-rules.ts';
export { BpfObject, loadObject, type ObjectOptions, type ProgramOptions } from './object.ts';
export { type PacketSocket, packetSockets } from './packet-diag.ts';
export { openPacketRing, PacketRing, type PacketRingOptions, type PacketRingStats } from './packet-ring.ts';
export { Pmu, type PmuCounts } from './perf.ts';
export { FEATURES, type Feature, type ProbeResult, probe, probeAll } from './probe.ts';
export { type SoftnetRow, snmp, snmp6, softnet } from './proc-net.ts';
export {
  BpfProgram,
  type InstructionOptions,
  loadInstructions,
  type ProgramInfo,
  type TestRunOptions,
  type TestRunResult,
} from './program.ts';
export { type RecordCallback, RingBuffer } from './ringbuf.ts';
export { PacketSender } from './sender.ts';
export { ServiceManager } from './service-manager.ts';
export { NativeShortWays, type ShortWayTables } from './short-ways.ts';
export { runSocketFilter } from './socket-filter.ts';
export {
  bootId,
  type Capabilities,
  capabilities,
  clockSynchronized,
  coarseStep,
  ensureBpffs,
  enterNetns,
  FileLock,
  lockFile,
  membarrier,
  monotonic,
  monotonicNs,
  netnsCookie,
  netnsInode,
  type PeerCredentials,
  peerCredentials,
  possibleCpus,
  realtimeOffset,
  setThreadAffinity,
  unshareNetns,
} from './system.ts';
export { allowedCpus, coresFirst, nodeCpus, numaNode, parseCpuList } from './topology.ts';
export { type UdpImplementation, type UdpOptions, UdpReceiver } from './udp.ts';
export { UnixDatagrams } from './unix-datagrams.ts';
export { Watch } from './watch.ts';
export {
  FILL_WORDS,
  PACKET_CONTINUES,
  Promiscuity,
  RX_WORDS,
  type XdpRing,
  XdpSocket,
  type XdpSocketOptions,
  type XdpSocketStats,
} from './xsk.ts';
