"""
What a client does with a gate, from its first request until the gate has been away and is back: run by test/long/clients.test.ts,
which starts the gate, kills its daemon where this says so, and starts it again. Prints a line for each step.
"""

from __future__ import annotations

import sys
import threading

from sluice_client import Event, Exists, Flow, GateClient, GateDown, GateError, Held, NotFound, Refused


def flow(port: int) -> Flow:
    return Flow("udp", "10.9.0.1", port, "10.9.0.2", 6000)


def step(name: str) -> None:
    print(name, flush=True)


def wait_for_line() -> None:
    if sys.stdin.readline() == "":
        raise SystemExit("nobody is there")


def main(socket: str) -> None:
    gate = GateClient(socket)
    gate.own("python", lease=60.0, idle=600.0, renew=True)
    assert gate.add([flow(1), flow(2)], owner="python", trigger="tested") == [None, None]
    [again, held] = gate.add([flow(1), flow(3)], ttl=600.0)
    assert isinstance(again, Exists), again
    assert held is None
    assert sorted(row["a"]["port"] for row in gate.list()) == [1, 2, 3]
    assert [row["trigger"] for row in gate.list("python")] == ["tested", "tested"]

    assert gate.hold([flow(3), flow(4)], ttl=600.0, why="a file") == [True, False]
    [problem] = gate.add([flow(4)])
    assert isinstance(problem, Held) and problem.help is not None, problem
    assert {row["a"]["port"]: row["kept"] for row in gate.holds()} == {3: 0, 4: 1}
    [missing] = gate.release([flow(9)])
    assert isinstance(missing, NotFound), missing
    assert gate.release([flow(3)]) == [None]

    assert gate.add_exception("10.9.0.1/32") == 2
    assert "10.9.0.1/32" in gate.exceptions()
    [refused] = gate.add([flow(1)], owner="python")
    assert isinstance(refused, Refused), refused
    gate.remove_exception("10.9.0.1/32")
    assert gate.add([flow(1)], owner="python") == [None]
    assert gate.remove([flow(1)]) == [None]
    try:
        gate.request("nonsense")
        raise AssertionError("the gate took nonsense")
    except GateError as error:
        assert error.code == "CONTROL", error
    step("done")

    # More than the gate takes of one client: this one waits instead.
    quick = GateClient(socket, requests_per_second=5000.0)
    for _ in range(4000):
        quick.request("exception.list")
    quick.close()
    step("patient")

    # The gate goes away, and comes back.
    starts: list[Event] = []
    events = gate.watch(interval=0)
    seen = threading.Event()

    def watch() -> None:
        for event in events:
            starts.append(event)
            seen.set()

    threading.Thread(target=watch, daemon=True).start()
    step("watching")
    wait_for_line()
    while True:
        try:
            results = gate.add([flow(7)], owner="python")
            break
        except GateDown:
            continue
    assert results == [None], results
    assert seen.wait(60), "no event after the gate was away"
    assert starts[0]["shunt"]["a"]["port"] == 7, starts
    assert [row["a"]["port"] for row in gate.holds()] == [4]
    gate.disown("python")
    gate.close()
    step("back")


main(sys.argv[1])
