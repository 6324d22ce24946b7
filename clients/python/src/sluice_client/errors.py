"""Errors as the gate answers them; codes are those of Sluice's docs/errors.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class GateError(Exception):
    """`code` is what to go by, `help` the next step for people."""

    def __init__(self, code: str, message: str, help: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.help = help

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class GateDown(GateError):
    """Nobody listens, the connection broke off, or no answer came."""


class Denied(GateError):
    """It belongs to another user or owner."""


class NotFound(GateError):
    """There is no such entry, hold or owner."""


class Exists(GateError):
    """The flow is shunted already."""


class Held(GateError):
    """Somebody still needs the flow."""


class Refused(GateError):
    """The gate does not shunt this."""


class LimitReached(GateError):
    """A limit of the control socket."""


class RateLimited(LimitReached):
    """Too many requests; `retry_after` in seconds."""

    def __init__(self, code: str, message: str, help: str | None, retry_after: float) -> None:
        super().__init__(code, message, help)
        self.retry_after = retry_after


_CLASSES: Mapping[str, type[GateError]] = {
    "GATE_DOWN": GateDown,
    "DENIED": Denied,
    "NOT_FOUND": NotFound,
    "EXISTS": Exists,
    "HELD": Held,
    "REFUSED": Refused,
    "LIMIT": LimitReached,
}


def error_of(wire: Mapping[str, Any]) -> GateError:
    """The error that an answer tells of."""
    code = str(wire.get("code", "CONTROL"))
    message = str(wire.get("message", ""))
    help_text = wire.get("help")
    help = None if help_text is None else str(help_text)
    retry_after = wire.get("retryAfter")
    if retry_after is not None:
        return RateLimited(code, message, help, float(retry_after))
    return _CLASSES.get(code, GateError)(code, message, help)
