"""A service of our own for the time of a benchmark."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import SystemRandom
from threading import Thread
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

from sidestep.errors import BenchmarkFailed

HOST = "127.0.0.1"
START_S = 120.0
UNLENT = range(10_000, 32_000)  # ports
_CODE = "import sys; sys.path.append({root!r}); from sidestep.cli.main import main; main()"


@contextmanager
def serving(*flags: str) -> Iterator[str]:
    """Run `sidestep serve` with these flags on a free port until the block ends; its address.

    Raises BenchmarkFailed with its last words if it does not start.
    """
    port = free_port()
    root = str(Path(__file__).parents[1])
    place = ["--host", HOST, "--port", str(port)]  # where a variable names others too
    command = [sys.executable, "-c", _CODE.format(root=root), "serve", *flags, *place]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ
    ) as process:
        assert process.stdout is not None
        try:
            told: deque[str] = deque(maxlen=5)
            for line in process.stdout:
                told.append(line.strip())
                if "sidestep is ready" in line:
                    break
            else:
                raise BenchmarkFailed(f"the service did not start: {' '.join(told)[-400:]}")
            Thread(target=deque, args=(process.stdout, 0), daemon=True).start()  # keeps it going
            wait_for_page(port)
            yield f"http://{HOST}:{port}"
        finally:
            process.terminate()


def wait_for_page(port: int) -> None:
    """Wait until the service's page answers: it loads beside it, and would be measured with it."""
    straight = build_opener(ProxyHandler({}))  # a proxy's own machine is another
    try:
        with straight.open(f"http://{HOST}:{port}/ui/", timeout=START_S):
            pass
    except HTTPError:
        pass  # 401 where a key is wanted, before the page has loaded
    except OSError as error:
        raise BenchmarkFailed(f"the service started and then did not answer ({error})") from error


def free_port() -> int:
    """Find a port of this machine that nobody listens on.

    Below those that a system lends to connections (from 32768 on Linux), any of which may take a
    port between the moment it is found free and that in which a server listens there.
    """
    for port in SystemRandom().sample(UNLENT, len(UNLENT)):
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            return port
    raise BenchmarkFailed(f"no port from {UNLENT[0]} to {UNLENT[-1]} is free; end what holds them")
