"""What `sidestep serve` does beside the server; tests/serve/test_service.py runs the whole."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from serve.run import _tell_when_ready, check_guards
from serve.settings import Settings
from sidestep.errors import InvalidRequest


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


@pytest.mark.parametrize(
    ("settings", "needed"),
    [(Settings(rate_per_key=5), "keys"), (Settings(log_prompts=True), "access_log")],
)
def test_a_setting_that_does_nothing_alone_is_refused(settings: Settings, needed: str) -> None:
    with pytest.raises(InvalidRequest, match=f"does nothing without {needed}"):
        check_guards(settings)
