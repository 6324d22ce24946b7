"""Client of Sluice's control socket: shunts, exceptions and holds at a gate."""

from .client import Event, GateClient, Row
from .errors import (
    Denied,
    Exists,
    GateDown,
    GateError,
    Held,
    LimitReached,
    NotFound,
    RateLimited,
    Refused,
)
from .flow import Flow
from .places import socket_of

__all__ = [
    "Denied",
    "Event",
    "Exists",
    "Flow",
    "GateClient",
    "GateDown",
    "GateError",
    "Held",
    "LimitReached",
    "NotFound",
    "RateLimited",
    "Refused",
    "Row",
    "socket_of",
]
