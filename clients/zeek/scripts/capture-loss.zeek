##! Gaps of shunted connections are no capture loss: they are taken out of capture_loss.log, and a notice that they alone have
##! caused is not raised.

@load base/frameworks/notice
@load misc/capture-loss
@load ./main

module Sluice;

## Gaps in connections that were shunted, since the last measurement.
global shunted_gaps = 0;
## Of the last measurement.
global acks_before = 0;
global gaps_before = 0;

event content_gap(c: connection, is_orig: bool, seq: count, length: count)
	{
	if ( c?$sluice )
		++shunted_gaps;
	}

function corrected(gaps: count): count
	{
	return gaps > shunted_gaps ? gaps - shunted_gaps : 0;
	}

function percent(gaps: count, acks: count): double
	{
	return acks == 0 ? 0.0 : 100 * (1.0 * gaps) / (1.0 * acks);
	}

# Raised before the line is written.
hook Notice::policy(n: Notice::Info) &priority=10
	{
	if ( n$note != CaptureLoss::Too_Much_Loss || shunted_gaps == 0 )
		return;

	local now = get_gap_stats();
	local lost = percent(corrected(now$gap_events - gaps_before), now$ack_events - acks_before);

	if ( lost < CaptureLoss::too_much_loss * 100 )
		{
		n$actions = set();
		break;
		}
	}

hook CaptureLoss::log_policy(rec: CaptureLoss::Info, id: Log::ID, filter: Log::Filter)
	{
	local now = get_gap_stats();

	rec$gaps = corrected(rec$gaps);
	rec$percent_lost = percent(rec$gaps, rec$acks);
	shunted_gaps = 0;
	acks_before = now$ack_events;
	gaps_before = now$gap_events;
	}
