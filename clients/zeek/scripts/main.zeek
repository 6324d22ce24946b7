##! Shunts connections with a Sluice gate: requests go out over Zeek's WebSocket (`sluice gate up --zeek URL`), and what the gate
##! has counted comes back when a shunt has ended. Each node that shunts gives signs of life; when they stay away the gate lets
##! its connections pass again.

@load base/frameworks/cluster
@load base/frameworks/logging

module Sluice;

export {
	redef enum Log::ID += { LOG };

	## Where the manager, or the only process, listens for the gate, for instance 27759/tcp. Unset: something else makes Zeek
	## listen (zeekctl's UseWebSocket).
	const websocket = 0/unknown &redef;

	## On which address. There is no authentication: not one that others reach.
	const websocket_addr = 127.0.0.1 &redef;

	## How often a node gives a sign of life; the gate waits for 10 seconds.
	const alive_interval = 2sec &redef;

	## How long a shunted connection of which nothing comes any more is kept.
	option shunt_timeout = 1hr;

	## What was shunted of a connection, in all shunts of it. Packets, and bytes of IP.
	type Shunted: record {
		## It is being dropped now.
		now: bool &default=F;
		orig_pkts: count &default=0;
		orig_bytes: count &default=0;
		resp_pkts: count &default=0;
		resp_bytes: count &default=0;
	};

	## A shunt that has ended.
	type Info: record {
		## When its end was told.
		ts: time &log;
		uid: string &log;
		id: conn_id &log;
		## When it began, and its last dropped packet.
		first: time &log;
		last: time &log;
		## fin, rst, syn, idle, lease, asked, ...
		reason: string &log;
		orig_shunted_pkts: count &log;
		orig_shunted_bytes: count &log;
		resp_shunted_pkts: count &log;
		resp_shunted_bytes: count &log;
	};

	global log_policy: Log::PolicyHook;

	## Break to keep a connection from being shunted.
	global shunting: hook(c: connection, trigger: string);

	## Asks the gate to shunt a TCP or UDP connection. F: it was vetoed, is shunted already, or is neither.
	global shunt_connection: function(c: connection, trigger: string &default="script"): bool;

	## Asks the gate to let it pass again.
	global unshunt_connection: function(c: connection): bool;

	## Raised for whoever wants to know.
	global connection_shunted: event(c: connection);
	global connection_unshunted: event(c: connection, reason: string);

	## To the gate: `key` is what it answers with.
	global shunt: event(node: string, key: string, orig_h: addr, orig_p: port, resp_h: addr, resp_p: port,
	                    vlan: count, inner_vlan: count, trigger: string);
	global unshunt: event(node: string, key: string, orig_h: addr, orig_p: port, resp_h: addr, resp_p: port,
	                      vlan: count, inner_vlan: count);
	global alive: event(node: string);

	## From the gate.
	global bridge_up: event(instance: string);
	global shunted: event(key: string);
	global refused: event(key: string, code: string, why: string);
	global unshunted: event(key: string, reason: string, first: time, last: time,
	                        orig_pkts: count, orig_bytes: count, resp_pkts: count, resp_bytes: count);

	## What this node is called.
	global node_name: function(): string;

	const request_topic = "sluice.request";
}

redef record connection += {
	sluice: Shunted &optional;
};

# A reset connection would be gone before the gate has told what it counted.
redef tcp_reset_delay = 2sec;

## Connections that the gate was asked to shunt, by uid.
global asked: table[string] of conn_id = table() &write_expire=7days;
## The gate that they were asked of.
global gate = "";

function node_name(): string
	{
	return Cluster::is_enabled() ? Cluster::node : "zeek";
	}

function vlan_of(c: connection): count
	{
	return c?$vlan ? int_to_count(c$vlan) : 0;
	}

function inner_vlan_of(c: connection): count
	{
	return c?$inner_vlan ? int_to_count(c$inner_vlan) : 0;
	}

function shunt_connection(c: connection, trigger: string): bool
	{
	local proto = get_port_transport_proto(c$id$resp_p);

	if ( c$uid in asked || (proto != tcp && proto != udp) )
		return F;

	if ( ! hook Sluice::shunting(c, trigger) )
		return F;

	asked[c$uid] = c$id;
	Cluster::publish(request_topic, Sluice::shunt, node_name(), c$uid, c$id$orig_h, c$id$orig_p,
	                 c$id$resp_h, c$id$resp_p, vlan_of(c), inner_vlan_of(c), trigger);
	return T;
	}

function unshunt_connection(c: connection): bool
	{
	if ( c$uid !in asked )
		return F;

	Cluster::publish(request_topic, Sluice::unshunt, node_name(), c$uid, c$id$orig_h, c$id$orig_p,
	                 c$id$resp_h, c$id$resp_p, vlan_of(c), inner_vlan_of(c));
	return T;
	}

function inactivity_timeout(id: conn_id): interval
	{
	return get_port_transport_proto(id$resp_p) == tcp ? tcp_inactivity_timeout : udp_inactivity_timeout;
	}

event Sluice::shunted(key: string)
	{
	if ( key !in asked || ! connection_exists(asked[key]) )
		return;

	local c = lookup_connection(asked[key]);

	if ( c$uid != key )
		return;

	if ( ! c?$sluice )
		c$sluice = Shunted();

	c$sluice$now = T;
	set_inactivity_timeout(c$id, shunt_timeout);
	event Sluice::connection_shunted(c);
	}

event Sluice::refused(key: string, code: string, why: string)
	{
	# It may be asked for again.
	if ( key in asked && code != "NOT_FOUND" )
		delete asked[key];
	}

event Sluice::unshunted(key: string, reason: string, first: time, last: time,
                        orig_pkts: count, orig_bytes: count, resp_pkts: count, resp_bytes: count)
	{
	if ( key !in asked )
		return;

	local id = asked[key];
	delete asked[key];
	Log::write(LOG, Info($ts=network_time(), $uid=key, $id=id, $first=first, $last=last, $reason=reason,
	                     $orig_shunted_pkts=orig_pkts, $orig_shunted_bytes=orig_bytes,
	                     $resp_shunted_pkts=resp_pkts, $resp_shunted_bytes=resp_bytes));

	if ( ! connection_exists(id) )
		return;

	local c = lookup_connection(id);

	if ( c$uid != key )
		return;

	if ( ! c?$sluice )
		c$sluice = Shunted();

	c$sluice$now = F;
	c$sluice$orig_pkts += orig_pkts;
	c$sluice$orig_bytes += orig_bytes;
	c$sluice$resp_pkts += resp_pkts;
	c$sluice$resp_bytes += resp_bytes;
	set_inactivity_timeout(id, inactivity_timeout(id));
	event Sluice::connection_unshunted(c, reason);
	}

# Another gate knows nothing of what the one before was asked: nobody will tell the end of that.
event Sluice::bridge_up(instance: string)
	{
	if ( gate == instance )
		return;

	gate = instance;

	local before = copy(asked);
	clear_table(asked);

	for ( uid, id in before )
		{
		if ( ! connection_exists(id) )
			next;

		local c = lookup_connection(id);

		if ( c$uid == uid && c?$sluice )
			{
			c$sluice$now = F;
			set_inactivity_timeout(id, inactivity_timeout(id));
			}
		}
	}

event Sluice::alive(node: string)
	{
	}

event Sluice::send_alive()
	{
	Cluster::publish(request_topic, Sluice::alive, node_name());
	schedule alive_interval { Sluice::send_alive() };
	}

event zeek_init()
	{
	Log::create_stream(LOG, Log::Stream($columns=Info, $path="sluice_shunt", $policy=log_policy));
	Cluster::subscribe(fmt("sluice.reply.%s.", node_name()));
	Cluster::subscribe("sluice.all.");

	if ( websocket != 0/unknown &&
	     (! Cluster::is_enabled() || Cluster::local_node_type() == Cluster::MANAGER) )
		Cluster::listen_websocket([$listen_addr=websocket_addr, $listen_port=websocket]);

	# Those that see packets.
	if ( ! Cluster::is_enabled() || Cluster::local_node_type() == Cluster::WORKER )
		event Sluice::send_alive();
	}
