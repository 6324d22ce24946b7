@load ./main
@load ./conn-log
@load ./capture-loss
@load ./netcontrol
@load ./policies
