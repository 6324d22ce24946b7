##! What is shunted without a script of your own.

@load base/protocols/conn
@load base/protocols/ssl
@load ./main

module Sluice;

export {
	## Shunt TLS once it is established: what follows is encrypted.
	option shunt_tls = T;

	## Shunt TCP and UDP connections of which one side has sent more than this; 0: none.
	option shunt_bytes: count = 0;
}

event ssl_established(c: connection)
	{
	if ( shunt_tls )
		Sluice::shunt_connection(c, "tls");
	}

event new_connection(c: connection)
	{
	if ( shunt_bytes == 0 )
		return;

	ConnThreshold::set_bytes_threshold(c, shunt_bytes, T);
	ConnThreshold::set_bytes_threshold(c, shunt_bytes, F);
	}

event ConnThreshold::bytes_threshold_crossed(c: connection, threshold: count, is_orig: bool)
	{
	if ( shunt_bytes != 0 && threshold == shunt_bytes )
		Sluice::shunt_connection(c, "bulk");
	}
