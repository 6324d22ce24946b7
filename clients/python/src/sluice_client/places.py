"""Where the control socket of a gate is."""

from __future__ import annotations

import json
import os
from pathlib import Path

from .errors import GateDown, GateError

RUN_DIRECTORY = "/run/sluice"


def socket_of(interface: str | None = None, directory: str = RUN_DIRECTORY) -> str:
    """
    The socket of the gate on this interface, of this network namespace; without a name of the only gate that is up.
    Raises GateDown, or GateError with the code USAGE when there are several to choose from.
    """
    prefix = f"{os.stat('/proc/self/ns/net').st_ino}-"
    found: list[str] = []
    try:
        files = sorted(Path(directory).iterdir())
    except OSError:
        files = []
    for file in files:
        if not file.name.startswith(prefix) or file.suffix != ".json":
            continue
        try:
            state = json.loads(file.read_text())
            names = [str(each["interface"]) for each in state["interfaces"]]
        except (OSError, ValueError, KeyError, TypeError):
            # Just being written anew, or going away.
            continue
        if interface is None or interface in names:
            found.append(str(file.with_suffix(".sock")))
    if len(found) == 1:
        return found[0]
    if not found:
        where = "" if interface is None else f" on {interface}"
        raise GateDown("GATE_DOWN", f"no gate is up{where}")
    raise GateError("USAGE", f"{len(found)} gates are up: name an interface")
