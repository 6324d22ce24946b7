"""One connection to the control socket: requests with ids, answers in whatever order."""

from __future__ import annotations

import json
import queue
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import GateDown, GateError, error_of


@dataclass
class _Waiting:
    """Whoever has asked: gets pages, then one answer."""

    answers: queue.SimpleQueue[Mapping[str, Any] | None] = field(default_factory=queue.SimpleQueue)


class Connection:
    """Thread-safe. A thread of its own reads answers and events."""

    def __init__(
        self,
        path: str,
        answer_seconds: float,
        told: Callable[[Mapping[str, Any]], None],
        closed: Callable[[], None],
    ) -> None:
        """Raises GateDown, or GateError with the code PRIVILEGE."""
        self._answer_seconds = answer_seconds
        self._told = told
        self._closed = closed
        self._lock = threading.Lock()
        self._waiting: dict[int, _Waiting] = {}
        self._next = 1
        self._open = True
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.connect(path)
        except PermissionError as error:
            self._socket.close()
            raise GateError("PRIVILEGE", f"this user may not use {path}") from error
        except OSError as error:
            self._socket.close()
            raise GateDown("GATE_DOWN", f"nobody listens at {path}") from error
        self._reader = threading.Thread(target=self._read, name="sluice-client", daemon=True)
        self._reader.start()

    @property
    def open(self) -> bool:
        return self._open

    def ask(
        self,
        op: str,
        fields: Mapping[str, Any],
        page: Callable[[list[Any]], None] | None = None,
    ) -> dict[str, Any]:
        """Raises GateError as the gate answers, GateDown when it does not."""
        waiting = _Waiting()
        with self._lock:
            if not self._open:
                raise GateDown("GATE_DOWN", "the gate has closed the connection")
            number = self._next
            self._next += 1
            self._waiting[number] = waiting
            line = json.dumps({"id": number, "op": op, **fields}, separators=(",", ":"))
            try:
                self._socket.sendall(line.encode() + b"\n")
            except OSError as error:
                self._waiting.pop(number, None)
                raise GateDown("GATE_DOWN", "the gate has closed the connection") from error
        while True:
            try:
                answer = waiting.answers.get(timeout=self._answer_seconds)
            except queue.Empty:
                with self._lock:
                    self._waiting.pop(number, None)
                raise GateDown("GATE_DOWN", "the gate does not answer") from None
            if answer is None:
                raise GateDown("GATE_DOWN", "the gate has closed the connection")
            if "page" in answer:
                if page is not None:
                    page(answer["page"])
                continue
            if "error" in answer:
                raise error_of(answer["error"])
            return dict(answer.get("result") or {})

    def _read(self) -> None:
        try:
            with self._socket.makefile("rb") as lines:
                for line in lines:
                    self._take(json.loads(line))
        except (OSError, ValueError):
            # It is over either way.
            pass
        with self._lock:
            self._open = False
            left = list(self._waiting.values())
            self._waiting.clear()
        self._socket.close()
        for waiting in left:
            waiting.answers.put(None)
        self._closed()

    def _take(self, answer: Mapping[str, Any]) -> None:
        if "event" in answer:
            self._told(answer["event"])
            return
        with self._lock:
            number = answer.get("id")
            if number is None:
                # An error of the connection: for whoever waits longest.
                number = next(iter(self._waiting), None)
            if number is None:
                return
            waiting = self._waiting.get(number)
            if waiting is not None and "page" not in answer:
                del self._waiting[number]
        if waiting is not None:
            waiting.answers.put(answer)

    def close(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        if threading.current_thread() is not self._reader:
            self._reader.join(timeout=1)
