"""Engine calls that hang are given up, so that their callers hear of it and others are served."""

from __future__ import annotations

import threading
import time

from serve.batcher import Batcher

TIMES = 20  # as long as such a call was measured to take
LOOKS = 4  # in the shortest time that counts as hanging


class Watchdog:
    """Watches a batcher's calls on a thread; time is the monotonic clock's."""

    def __init__(self, batcher: Batcher, *, least_s: float) -> None:
        """Make a watchdog that lets every call take `least_s`."""
        self._batcher, self._least_s = batcher, least_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(self._least_s / LOOKS):
            now, times = time.perf_counter(), self._batcher.device.times
            for thread, call in self._batcher.calls().items():
                allowed_s = max(self._least_s, TIMES * times.seconds(len(call.jobs)))
                if now - call.began > allowed_s:
                    self._batcher.give_up(thread, call)
