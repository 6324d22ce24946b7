##! conn.log: what the gate has dropped of a connection. The base fields are what Zeek has seen; this comes on top.

@load base/protocols/conn
@load ./main

module Sluice;

redef record Conn::Info += {
	## Packets of it were dropped by the gate.
	is_shunted: bool &log &optional;
	orig_shunted_pkts: count &log &optional;
	## Bytes of IP.
	orig_shunted_bytes: count &log &optional;
	resp_shunted_pkts: count &log &optional;
	resp_shunted_bytes: count &log &optional;
};

# Before conn.log is written, at -5.
event connection_state_remove(c: connection) &priority=1
	{
	if ( ! c?$sluice )
		return;

	c$conn$is_shunted = T;

	# Counts of a shunt that goes on are told when it ends, in sluice_shunt.log.
	if ( c$sluice$now )
		return;

	c$conn$orig_shunted_pkts = c$sluice$orig_pkts;
	c$conn$orig_shunted_bytes = c$sluice$orig_bytes;
	c$conn$resp_shunted_pkts = c$sluice$resp_pkts;
	c$conn$resp_shunted_bytes = c$sluice$resp_bytes;
	}

# A connection that ends while it is shunted shall not stay in the gate.
event connection_state_remove(c: connection) &priority=-10
	{
	if ( c?$sluice && c$sluice$now )
		Sluice::unshunt_connection(c);
	}
