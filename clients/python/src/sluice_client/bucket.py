"""Keeps a client within what the gate takes."""

from __future__ import annotations

import threading
import time


class Bucket:
    """So many requests a second, and so many saved up."""

    def __init__(self, per_second: float, burst: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._tokens = burst
        self._at = time.monotonic()
        self._lock = threading.Lock()

    def take(self) -> None:
        """Takes one, and returns when it may be used."""
        with self._lock:
            now = time.monotonic()
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_second) - 1
            self._at = now
            wait = -self._tokens / self._per_second
        if wait > 0:
            time.sleep(wait)
