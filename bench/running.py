"""A service beside its benchmark: started, watched from outside, and ended."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import psutil

from bench.service import HOST, START_S, free_port, wait_for_page
from sidestep.errors import BenchmarkFailed


class Running:
    """A service's processes: the one that was started and all below it."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        """Watch `process`, which listens on `port` of this machine."""
        self.port = port
        self._process = psutil.Process(process.pid)

    def cpu_s(self) -> float:
        """Sum the processor time that the processes have used."""
        times = [process.cpu_times() for process in self._all()]
        return float(sum(one.user + one.system for one in times))

    def memory_mib(self) -> float:
        """Sum the memory that the processes hold."""
        return float(sum(process.memory_info().rss for process in self._all())) / 2**20

    def _all(self) -> Sequence[psutil.Process]:
        return [self._process, *self._process.children(recursive=True)]


@contextmanager
def running(*command: str) -> Iterator[Running]:
    """Run `python -m COMMAND --port PORT` on a free port, from ready until the block ends."""
    port = free_port()
    line = [sys.executable, "-m", *command, "--port", str(port)]
    with subprocess.Popen(line, stdout=subprocess.DEVNULL) as process:
        try:
            _wait_until_ready(process, port)
            yield Running(process, port)
        finally:
            process.terminate()


def _wait_until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    straight = build_opener(ProxyHandler({}))  # a proxy's own machine is another
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            with straight.open(f"http://{HOST}:{port}/readyz", timeout=5):
                break
        except (URLError, OSError):
            time.sleep(0.05)
    else:
        raise BenchmarkFailed(f"the service did not start (its status is {process.poll()})")
    wait_for_page(port)
