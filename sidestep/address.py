"""Where a server that listens on this machine is asked from the same machine."""

from __future__ import annotations

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (it is read, and none is opened)


def url_of(host: str, port: int) -> str:
    """Write the URL of a server that listens on `host`, which may be every address."""
    here = _EVERYWHERE.get(host, host)
    return f"http://[{here}]:{port}" if ":" in here else f"http://{here}:{port}"
