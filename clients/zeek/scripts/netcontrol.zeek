##! NetControl: `NetControl::shunt_flow` and rules that drop a connection on the monitoring path go to the gate.
##!
##!     event NetControl::init() { NetControl::activate(NetControl::create_sluice(), 0); }

@load base/frameworks/netcontrol
@load ./main

module NetControl;

export {
	## The plugin. A shunt is of both directions, also where a rule names one.
	global create_sluice: function(): PluginState;
}

module Sluice;

export {
	## Rules that the gate was asked for, by the key that it answers with.
	type Rule: record {
		rule: NetControl::Rule;
		plugin: NetControl::PluginState;
	};
}

global rules: table[string] of Rule = table();

type Ends: record {
	orig_h: addr;
	orig_p: port;
	resp_h: addr;
	resp_p: port;
};

function is_host(net: subnet): bool
	{
	local width = subnet_width(net);
	return is_v4_subnet(net) ? width == 32 : width == 128;
	}

## The connection that a rule is about; empty: none that can be shunted.
function ends_of(r: NetControl::Rule): vector of Ends
	{
	local found: vector of Ends = vector();
	local e = r$entity;

	if ( r$ty != NetControl::DROP || r$target != NetControl::MONITOR )
		return found;

	if ( e$ty == NetControl::CONNECTION && e?$conn )
		found += Ends($orig_h=e$conn$orig_h, $orig_p=e$conn$orig_p, $resp_h=e$conn$resp_h, $resp_p=e$conn$resp_p);

	if ( e$ty == NetControl::FLOW && e?$flow )
		{
		local f = e$flow;

		if ( f?$src_h && f?$src_p && f?$dst_h && f?$dst_p && is_host(f$src_h) && is_host(f$dst_h) )
			found += Ends($orig_h=subnet_to_addr(f$src_h), $orig_p=f$src_p,
			              $resp_h=subnet_to_addr(f$dst_h), $resp_p=f$dst_p);
		}

	return found;
	}

function rule_key(r: NetControl::Rule): string
	{
	return fmt("netcontrol-%s", r$id);
	}

function plugin_name(p: NetControl::PluginState): string
	{
	return "Sluice";
	}

function plugin_init(p: NetControl::PluginState)
	{
	NetControl::plugin_activated(p);
	}

function add_rule(p: NetControl::PluginState, r: NetControl::Rule): bool
	{
	local found = ends_of(r);

	if ( |found| == 0 )
		return F;

	local ends = found[0];
	local key = rule_key(r);

	rules[key] = Rule($rule=r, $plugin=p);
	Cluster::publish(Sluice::request_topic, Sluice::shunt, node_name(), key, ends$orig_h, ends$orig_p,
	                 ends$resp_h, ends$resp_p, 0, 0, r?$location && r$location != "" ? r$location : "netcontrol");
	return T;
	}

function remove_rule(p: NetControl::PluginState, r: NetControl::Rule, reason: string): bool
	{
	local found = ends_of(r);
	local key = rule_key(r);

	if ( |found| == 0 || key !in rules )
		return F;

	local ends = found[0];

	Cluster::publish(Sluice::request_topic, Sluice::unshunt, node_name(), key, ends$orig_h, ends$orig_p,
	                 ends$resp_h, ends$resp_p, 0, 0);
	return T;
	}

event Sluice::shunted(key: string)
	{
	if ( key in rules )
		event NetControl::rule_added(rules[key]$rule, rules[key]$plugin);
	}

event Sluice::refused(key: string, code: string, why: string)
	{
	if ( key !in rules )
		return;

	local known = rules[key];

	# It has ended by itself meanwhile.
	if ( code == "NOT_FOUND" )
		event NetControl::rule_removed(known$rule, known$plugin);
	else if ( code == "EXISTS" )
		event NetControl::rule_exists(known$rule, known$plugin, why);
	else
		event NetControl::rule_error(known$rule, known$plugin, fmt("%s: %s", code, why));

	delete rules[key];
	}

event Sluice::unshunted(key: string, reason: string, first: time, last: time,
                        orig_pkts: count, orig_bytes: count, resp_pkts: count, resp_bytes: count)
	{
	if ( key !in rules )
		return;

	local known = rules[key];
	delete rules[key];

	if ( reason == "asked" )
		event NetControl::rule_removed(known$rule, known$plugin);
	else
		event NetControl::rule_timeout(known$rule, NetControl::FlowInfo($duration=last - first,
		                               $packet_count=orig_pkts + resp_pkts, $byte_count=orig_bytes + resp_bytes),
		                               known$plugin);
	}

global sluice_plugin = NetControl::Plugin(
	$name=plugin_name,
	$can_expire=F,
	$init=plugin_init,
	$add_rule=Sluice::add_rule,
	$remove_rule=Sluice::remove_rule
);

function NetControl::create_sluice(): NetControl::PluginState
	{
	return NetControl::PluginState($plugin=sluice_plugin);
	}
