"""Keeps a client within what the gate takes."""

from __future__ import annotations

import threading
import time


#: Below this a client is not slowed down.
_LEAST = 100.0


class Bucket:
    """So many requests a second, and so many saved up."""

    def __init__(self, per_second: float, burst: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._tokens = burst
        self._at = time.monotonic()
        self._lock = threading.Lock()

    def slow(self) -> None:
        """The gate has refused one: nothing is saved up, and fewer go from now on."""
        with self._lock:
            self._tokens = min(self._tokens, 0)
            self._per_second = max(_LEAST, self._per_second * 0.8)

    def take(self) -> None:
        """Takes one, and returns when it may be used."""
        with self._lock:
            now = time.monotonic()
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_second) - 1
            self._at = now
            wait = -self._tokens / self._per_second
        if wait > 0:
            time.sleep(wait)
