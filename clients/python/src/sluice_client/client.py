"""The control socket of a gate."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

from .bucket import Bucket
from .connection import Connection
from .errors import GateDown, GateError, RateLimited, error_of
from .flow import Flow
from .places import socket_of

PROTOCOL_VERSION = 1
#: Flows in one request.
_FLOWS = 256
#: How often what was refused as too much is asked again.
_RETRIES = 20
_LONGEST_WAIT = 1.0
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 2.0
#: An owner's lease is renewed this often before it is over.
_RENEWALS = 3
#: Events that wait for a watcher that does not read; then the oldest are dropped.
_EVENTS = 65_536

#: A row or event as the gate tells it (docs/control.md of Sluice).
Row = Mapping[str, Any]
Event = Mapping[str, Any]
Seconds = float | Literal["off"]


@dataclass
class _Held:
    flow: Flow
    owner: str | None
    why: str | None
    #: Of time.monotonic, when its time is over; then it is not set again.
    until: float | None


@dataclass
class _Owner:
    settings: dict[str, Any]
    stop: threading.Event


class GateClient:
    """
    Thread-safe. What an owner has registered, what is held and what is watched is set again after a connection was lost; a
    request that was under way then fails with GateDown, as nobody knows what has become of it.
    """

    def __init__(
        self,
        socket: str | None = None,
        *,
        interface: str | None = None,
        answer_seconds: float = 10.0,
        reconnect_seconds: float = 30.0,
        requests_per_second: float = 900.0,
    ) -> None:
        """
        `socket`: path of the control socket; without it that of `interface`, or of the only gate that is up.
        `reconnect_seconds`: how long to try to connect again after the gate has gone; 0: not at all.
        Raises GateDown, or GateError with the codes PRIVILEGE, USAGE, CONTROL.
        """
        self._path = socket if socket is not None else socket_of(interface)
        self._answer_seconds = answer_seconds
        self._reconnect_seconds = reconnect_seconds
        self._bucket = Bucket(requests_per_second, 2 * requests_per_second)
        self._lock = threading.RLock()
        self._owners: dict[str, _Owner] = {}
        self._held: dict[tuple[Flow, str | None], _Held] = {}
        self._watchers: list[queue.Queue[Event | None]] = []
        self._interval = 1.0
        self._closing = threading.Event()
        self._connection = self._open()

    def _open(self) -> Connection:
        connection = Connection(self._path, self._answer_seconds, self._tell, self._lost)
        try:
            connection.ask("hello", {"version": PROTOCOL_VERSION})
        except GateError:
            connection.close()
            raise
        return connection

    def _tell(self, event: Event) -> None:
        for watcher in list(self._watchers):
            if watcher.full():
                try:
                    watcher.get_nowait()
                except queue.Empty:
                    pass
            watcher.put(event)

    def _lost(self) -> None:
        # Leases and watchers want it back before somebody asks for something.
        if not self._closing.is_set() and (self._watchers or self._owners):
            threading.Thread(target=self._come_back, name="sluice-client-again", daemon=True).start()

    def _come_back(self) -> None:
        try:
            self._ready()
        except GateError:
            for watcher in list(self._watchers):
                watcher.put(None)

    def _ready(self) -> Connection:
        """A connection that is open: this one, or a new one on which all is set as it was."""
        with self._lock:
            if self._closing.is_set():
                raise GateError("CLOSED", "the client was closed")
            if self._connection.open:
                return self._connection
            end = time.monotonic() + self._reconnect_seconds
            wait = _FIRST_PAUSE
            while True:
                try:
                    connection = self._open()
                    self._restore(connection)
                    self._connection = connection
                    return connection
                except GateDown:
                    if time.monotonic() + wait > end or self._closing.wait(wait):
                        raise
                wait = min(2 * wait, _LONGEST_PAUSE)

    def _restore(self, connection: Connection) -> None:
        for owner in self._owners.values():
            connection.ask("owner.register", owner.settings)
        for held in self._held.values():
            flow = held.flow.wire()
            if held.until is not None:
                left = held.until - time.monotonic()
                if left <= 1:
                    continue
                flow["ttl"] = left
            connection.ask("hold.add", {"flows": [flow], **_named(held.owner, held.why)})
        if self._watchers:
            connection.ask("watch", {"interval": self._interval})

    def request(
        self,
        op: str,
        fields: Mapping[str, Any] | None = None,
        page: Callable[[list[Any]], None] | None = None,
    ) -> dict[str, Any]:
        """
        Any request of the protocol. Waits where the gate would refuse it as too many, and asks again where it has.
        Raises GateError.
        """
        for tries in range(_RETRIES + 1):
            self._bucket.take()
            connection = self._ready()
            try:
                return connection.ask(op, fields or {}, page)
            except RateLimited as error:
                if tries == _RETRIES:
                    raise
                self._bucket.slow()
                time.sleep(min(_LONGEST_WAIT, error.retry_after * 2**tries))
        raise AssertionError("not reached")

    def _each(self, op: str, flows: Sequence[Mapping[str, Any]], fields: Mapping[str, Any]) -> list[Any]:
        results: list[Any] = []
        for start in range(0, len(flows), _FLOWS):
            part = list(flows[start : start + _FLOWS])
            results.extend(self.request(op, {"flows": part, **fields})["results"])
        return results

    def add(
        self,
        flows: Sequence[Flow],
        *,
        owner: str | None = None,
        ttl: float | None = None,
        idle: Seconds | None = None,
        trigger: str | None = None,
        why: str | None = None,
    ) -> list[GateError | None]:
        """Shunts flows, by hand for 300 seconds unless `ttl` says else. For each what was wrong; None: nothing."""
        wire = []
        for flow in flows:
            each = flow.wire()
            for name, value in (("ttl", ttl), ("idle", idle), ("trigger", trigger)):
                if value is not None:
                    each[name] = value
            wire.append(each)
        return _errors(self._each("add", wire, _named(owner, why)))

    def remove(self, flows: Sequence[Flow], *, why: str | None = None) -> list[GateError | None]:
        """Lets flows pass again."""
        return _errors(self._each("remove", [flow.wire() for flow in flows], _named(None, why)))

    def list(self, owner: str | None = None) -> list[Row]:
        """The live table with its counters."""
        rows: list[Row] = []
        self.request("list", _named(owner, None), rows.extend)
        return rows

    def watch(self, interval: float = 1.0) -> Iterator[Event]:
        """
        Events from now on, also after the gate was away, until the iterator is closed. `interval`: seconds between counters, 0:
        none. Raises GateDown when the gate does not come back.
        """
        watcher: queue.Queue[Event | None] = queue.Queue(_EVENTS)
        self._interval = interval
        self._watchers.append(watcher)
        try:
            self.request("watch", {"interval": interval})
        except GateError:
            self._watchers.remove(watcher)
            raise
        return self._events(watcher)

    def _events(self, watcher: queue.Queue[Event | None]) -> Iterator[Event]:
        try:
            while True:
                event = watcher.get()
                if event is None:
                    if self._closing.is_set():
                        return
                    raise GateDown("GATE_DOWN", "the gate has not come back")
                yield event
        finally:
            if watcher in self._watchers:
                self._watchers.remove(watcher)
            if not self._watchers and not self._closing.is_set() and self._connection.open:
                self.request("unwatch")

    def hold(
        self,
        flows: Sequence[Flow],
        *,
        ttl: float | None = None,
        owner: str | None = None,
        why: str | None = None,
    ) -> list[GateError | bool]:
        """
        Keeps flows from being shunted until `release`, or their time is over; set again when the gate was away. For each whether
        it was shunted, and now is not, or what was wrong.
        """
        wire = []
        for flow in flows:
            each = flow.wire()
            if ttl is not None:
                each["ttl"] = ttl
            wire.append(each)
        answers: list[GateError | bool] = []
        seconds = ttl if ttl is not None else (300.0 if owner is None else None)
        until = None if seconds is None else time.monotonic() + seconds
        for flow, result in zip(flows, self._each("hold.add", wire, _named(owner, why)), strict=True):
            if "error" in result:
                answers.append(error_of(result["error"]))
                continue
            with self._lock:
                self._held[(flow, owner)] = _Held(flow, owner, why, until)
            answers.append(bool(result["released"]))
        return answers

    def release(
        self, flows: Sequence[Flow], *, owner: str | None = None, why: str | None = None
    ) -> list[GateError | None]:
        """Lets go of what is held."""
        with self._lock:
            for flow in flows:
                self._held.pop((flow, owner), None)
        return _errors(self._each("hold.remove", [flow.wire() for flow in flows], _named(owner, why)))

    def holds(self) -> list[Row]:
        rows: list[Row] = []
        self.request("hold.list", {}, rows.extend)
        return rows

    def add_exception(self, prefix: str, *, why: str | None = None) -> int:
        """Never shunt what has an address of this network; how many shunts that has ended."""
        return int(self.request("exception.add", {"prefix": prefix, **_named(None, why)})["ended"])

    def remove_exception(self, prefix: str, *, why: str | None = None) -> None:
        self.request("exception.remove", {"prefix": prefix, **_named(None, why)})

    def exceptions(self) -> list[str]:
        return [str(each) for each in self.request("exception.list")["exceptions"]]

    def own(
        self,
        name: str,
        *,
        lease: Seconds = 2.0,
        idle: Seconds = 300.0,
        max_entries: int | None = None,
        renew: bool = False,
    ) -> None:
        """
        Registers an owner, whose entries last as long as its lease. `renew`: a thread renews it as long as this process runs; who
        wants its entries to end when its work hangs calls `renew` from that work instead.
        """
        settings: dict[str, Any] = {"name": name, "lease": lease, "idle": idle}
        if max_entries is not None:
            settings["maxEntries"] = max_entries
        self.request("owner.register", settings)
        owner = _Owner(settings, threading.Event())
        with self._lock:
            before = self._owners.get(name)
            if before is not None:
                before.stop.set()
            self._owners[name] = owner
        if renew and lease != "off":
            pause = float(lease) / _RENEWALS
            threading.Thread(target=self._renewing, args=(name, owner.stop, pause), daemon=True).start()

    def _renewing(self, name: str, stop: threading.Event, pause: float) -> None:
        while not stop.wait(pause):
            try:
                self.renew(name)
            except GateError:
                # Tried again; whoever asks for something is told.
                continue

    def renew(self, name: str) -> None:
        self.request("renew", {"owner": name})

    def disown(self, name: str) -> int:
        """The owner's entries end; how many there were."""
        with self._lock:
            owner = self._owners.pop(name, None)
        if owner is not None:
            owner.stop.set()
        return int(self.request("owner.unregister", {"name": name})["ended"])

    def status(self) -> dict[str, Any]:
        return self.request("status")

    def close(self) -> None:
        self._closing.set()
        for owner in list(self._owners.values()):
            owner.stop.set()
        self._connection.close()
        for watcher in list(self._watchers):
            watcher.put(None)

    def __enter__(self) -> GateClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _named(owner: str | None, why: str | None) -> dict[str, str]:
    given = {"owner": owner, "why": why}
    return {name: value for name, value in given.items() if value is not None}


def _errors(results: Sequence[Mapping[str, Any]]) -> list[GateError | None]:
    return [error_of(result["error"]) if "error" in result else None for result in results]
