"""How a flow is named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Flow:
    """
    A flow between two endpoints. `proto`: tcp, udp, sctp, icmp, icmp6, or a protocol number as text; of ICMP the ports are the
    type and the type that answers it. Ids of VLANs and tunnels are for gates that have them in their keys.
    """

    proto: str
    a_addr: str
    a_port: int
    b_addr: str
    b_port: int
    vlan: int = 0
    inner_vlan: int = 0
    vni: int = 0
    geneve_vni: int = 0

    def wire(self) -> dict[str, Any]:
        """As the protocol has it."""
        flow: dict[str, Any] = {
            "proto": self.proto,
            "a": {"addr": self.a_addr, "port": self.a_port},
            "b": {"addr": self.b_addr, "port": self.b_port},
        }
        for name, value in (
            ("vlan", self.vlan),
            ("innerVlan", self.inner_vlan),
            ("vni", self.vni),
            ("geneveVni", self.geneve_vni),
        ):
            if value != 0:
                flow[name] = value
        return flow
