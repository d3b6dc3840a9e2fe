"""`sidestep serve`: check first, then hand over to BentoML's server and tell when it is ready.

Three things can be wrong before the server starts, and each is one line for the caller: the
settings, the model and the address.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
import threading
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from serve.keys import read_keys
from serve.loading import load_generators
from serve.settings import Settings
from sidestep.address import url_of
from sidestep.errors import InvalidRequest

SERVICE = "serve.service:Sidestep"
OPEN_TO_ALL = (
    "can be reached from other machines, and whoever reaches it may draw; make API keys with "
    "`sidestep keys add NAME --keys FILE` and serve with --keys FILE"
)


def serve(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises InvalidRequest for an address that cannot be used, and InvalidModel for a model that
    cannot be opened.
    """
    settings = settings.settled()  # the worker is another process, in another folder
    address = _free_address(settings.host, settings.port)
    check_guards(settings)
    if not settings.keys and not ipaddress.ip_address(address.partition("%")[0]).is_loopback:
        print(f"warning: {settings.host} {OPEN_TO_ALL}", file=sys.stderr, flush=True)
    os.environ.update(settings.to_environment())
    load_generators(settings)
    telling = threading.Thread(target=_tell_when_ready, args=(address, settings.port), daemon=True)
    telling.start()
    _run_bentoml(address, settings)


def check_guards(settings: Settings) -> None:
    """Raise InvalidRequest if keys, rates, deny-list, safety hook or access log cannot be used.

    And BackendUnavailable where spans are wanted and the package that sends them is missing.
    """
    from serve.access_log import open_handler
    from serve.policy import Policy
    from serve.tracing import check_exporter

    for name, needed in (("rate_per_key", "keys"), ("log_prompts", "access_log")):
        if getattr(settings, name) and not getattr(settings, needed):
            message = f"{name} does nothing without {needed}; set that too, or leave it out"
            raise InvalidRequest(message, field=name)
    if settings.keys:
        read_keys(Path(settings.keys))
    if settings.access_log:
        open_handler(settings.access_log).close()
    if settings.traces:
        check_exporter()
    Policy(settings)


def _free_address(host: str, port: int) -> str:
    """Return `host` as an IP address that can be listened on; BentoML takes no names."""
    try:
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError:
        message = f"host {host!r} is not an address of this machine"
        raise InvalidRequest(message, field="host") from None
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(where)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            message = f"cannot listen on {host}:{port} ({reason}); choose another with --port"
            raise InvalidRequest(message, field="port") from None
    return str(where[0])


def _tell_when_ready(address: str, port: int) -> None:
    """Print the page's address as soon as pictures can be drawn."""
    url = url_of(address, port)
    straight = build_opener(ProxyHandler({}))  # a proxy's own machine is another
    while True:
        try:
            with straight.open(f"{url}/readyz", timeout=5):
                break
        except (URLError, OSError):
            time.sleep(0.05)
    print(f"sidestep is ready: {url} (Ctrl-C stops it)", flush=True)


def _run_bentoml(address: str, settings: Settings) -> None:
    """Run BentoML's supervisor and one worker in this process until a signal ends them.

    Through its command line, which is its public interface for a graceful timeout. Its own logs
    are left to errors.
    """
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    from bentoml_cli.cli import cli

    # Not the caller's folder: a folder named `serve` in it would be imported instead of ours.
    root = Path(__file__).resolve().parent.parent
    arguments = [
        "serve",
        SERVICE,
        *("--working-dir", str(root)),
        *("--host", address),
        *("--port", str(settings.port)),
        *("--timeout-graceful-shutdown", str(settings.grace_s)),
        "--quiet",
    ]
    sys.stdout.flush()
    cli(arguments, standalone_mode=False)
