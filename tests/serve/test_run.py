"""What `sidestep serve` does beside the server; tests/serve/test_service.py runs the whole."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from serve.run import _tell_when_ready


def test_it_tells_when_it_is_ready_whatever_proxy_is_set(
    serve_with: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = serve_with()
    host, port = url.removeprefix("http://").split(":")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    telling = threading.Thread(target=_tell_when_ready, args=(host, int(port)), daemon=True)
    telling.start()
    telling.join(20)
    assert capsys.readouterr().out == f"sidestep is ready: {url} (Ctrl-C stops it)\n"
