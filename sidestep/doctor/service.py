"""The service's settings, and whether its port is free."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from serve.settings import Settings, variable
from sidestep.address import url_of
from sidestep.client import Client
from sidestep.doctor.findings import Finding, ok, problem
from sidestep.errors import InvalidRequest, SidestepError, Unauthorized

LISTENING = "0A"  # as /proc/net/tcp writes the state
NEXT_PORTS = 100  # that are tried for a free one
PATIENCE_S = 2.0


def check() -> Iterator[Finding]:
    """Check the variables SIDESTEP_* and the port that `sidestep serve` would take."""
    try:
        settings = Settings.from_environment()
    except InvalidRequest as error:
        yield problem("settings", str(error), f"unset {error.field}")
        return
    given = [name for name in os.environ if name in map(variable, Settings.__dataclass_fields__)]
    yield ok("settings", f"given are {', '.join(sorted(given))}" if given else "the defaults")
    yield check_port(settings.host, settings.port)


def check_port(host: str, port: int) -> Finding:
    """Find out whether the service could listen there, and if not who does."""
    fault = _fault_of(host, port)
    if fault is None:
        return ok("port", f"{port} on {host} is free")
    if fault == errno.EACCES:
        text = f"{port} is open to administrators alone"
    elif fault == errno.EADDRNOTAVAIL:
        return problem("port", f"{host} is no address of this machine", "sidestep serve --host ::1")
    elif served := asyncio.run(_served(host, port)):
        return ok("port", f"{port} on {host} is a sidestep that runs already, with {served}")
    else:
        text = f"{port} on {host} is held by {holder_of(port) or 'another program'}"
    following = range(max(port, 1024) + 1, min(max(port, 1024) + NEXT_PORTS, 65_535) + 1)
    free = next((other for other in following if _fault_of(host, other) is None), 0)
    return problem("port", text, f"sidestep serve --port {free}" if free else "")


def holder_of(port: int) -> str:
    """Name the process that listens on a port of this machine; empty where nobody tells."""
    sockets = {f"socket:[{inode}]" for inode in _listening(port)}
    if not sockets:
        return ""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # another user's process, or one that has just ended
            if any(str(link.readlink()) in sockets for link in (process / "fd").iterdir()):
                words = (process / "cmdline").read_bytes().split(b"\0")
                command = " ".join(word.decode(errors="replace") for word in words).strip()
                return f"process {process.name} ({command[:80]})"
    return "a process of another user"


def _listening(port: int) -> list[str]:
    """List the inodes of sockets that listen on a port, as Linux tells them."""
    inodes = []
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        with suppress(OSError):
            for line in table.read_text(encoding="ascii").splitlines()[1:]:
                _, local, _, state, *rest = line.split()
                if state == LISTENING and int(local.rpartition(":")[2], 16) == port:
                    inodes.append(rest[5])
    return inodes


def _fault_of(host: str, port: int) -> int | None:
    """Return the error's number if a server cannot listen there; None if it can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
        try:
            probe.bind((host, port))
            probe.listen()
        except (socket.gaierror, UnicodeError):  # a name that is not found, or cannot be one
            return errno.EADDRNOTAVAIL
        except OSError as error:
            return error.errno or errno.EADDRNOTAVAIL
    return None


async def _served(host: str, port: int) -> str:
    """Name the models of the sidestep that answers there; empty where none does."""
    try:
        async with Client(url_of(host, port), timeout_s=PATIENCE_S) as client:
            return ", ".join(model.name for model in await client.models())
    except Unauthorized:
        return "models that it tells to those with a key"
    except SidestepError:
        return ""
