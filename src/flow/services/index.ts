import { BITTORRENT, BITTORRENT_DHT } from './bittorrent.ts';
import { type Choices, choicesOf } from './choice.ts';
import { DCE_RPC } from './dce-rpc.ts';
import { DHCP } from './dhcp.ts';
import { DNP3_TCP, DNP3_UDP } from './dnp3.ts';
import { DNS, DNS_TCP } from './dns.ts';
import { DTLS } from './dtls.ts';
import { FTP } from './ftp.ts';
import { HTTP } from './http.ts';
import { IKE } from './ike.ts';
import { IMAP } from './imap.ts';
import { IRC } from './irc.ts';
import { KRB_TCP, KRB_UDP } from './krb.ts';
import { LDAP_TCP, LDAP_UDP } from './ldap.ts';
import { MODBUS } from './modbus.ts';
import { MQTT } from './mqtt.ts';
import { MYSQL } from './mysql.ts';
import { NNTP } from './nntp.ts';
import { NTP } from './ntp.ts';
import { OPENVPN_TCP, OPENVPN_UDP } from './openvpn.ts';
import { POP3 } from './pop3.ts';
import { POSTGRESQL } from './postgresql.ts';
import { QUIC } from './quic.ts';
import { RADIUS } from './radius.ts';
import { RDP, RDPEUDP } from './rdp.ts';
import { REDIS } from './redis.ts';
import { RFB } from './rfb.ts';
import type { Service } from './service.ts';
import { SIEVE } from './sieve.ts';
import { SIP } from './sip.ts';
import { SMB } from './smb.ts';
import { SMTP } from './smtp.ts';
import { SNMP } from './snmp.ts';
import { SOCKS } from './socks.ts';
import { SSH } from './ssh.ts';
import { STUN } from './stun.ts';
import { SYSLOG, SYSLOG_TCP } from './syslog.ts';
import { TDS } from './tds.ts';
import { TLS } from './tls.ts';
import { WIREGUARD } from './wireguard.ts';
import { XMPP } from './xmpp.ts';

/** All that is recognized; where several fit the first bytes, all of them look on until one is sure. */
export const SERVICES: readonly Service[] = [
  DNS,
  QUIC,
  TLS,
  HTTP,
  DNS_TCP,
  SSH,
  NTP,
  SMTP,
  FTP,
  IMAP,
  POP3,
  IRC,
  DHCP,
  RADIUS,
  SIP,
  SNMP,
  STUN,
  DTLS,
  SYSLOG,
  SYSLOG_TCP,
  LDAP_TCP,
  LDAP_UDP,
  KRB_TCP,
  KRB_UDP,
  MYSQL,
  POSTGRESQL,
  RDP,
  RDPEUDP,
  XMPP,
  SMB,
  DCE_RPC,
  REDIS,
  MODBUS,
  DNP3_TCP,
  DNP3_UDP,
  MQTT,
  SOCKS,
  BITTORRENT,
  BITTORRENT_DHT,
  WIREGUARD,
  OPENVPN_TCP,
  OPENVPN_UDP,
  IKE,
  RFB,
  TDS,
  NNTP,
  SIEVE,
];

/** Made once: every flow chooses from the same. */
export const CHOICES: Choices = choicesOf(SERVICES);
