from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve.keys import add_key
from sidestep.errors import InvalidRequest

Make = Callable[..., str]


def wait_for_lines(path: Path, count: int) -> list[dict[str, Any]]:
    while len(lines := path.read_text().splitlines()) < count:
        time.sleep(0.01)
    return [json.loads(line) for line in lines]


def test_a_line_tells_of_a_request_without_its_prompt(serve_with: Make, tmp_path: Path) -> None:
    path, keys = tmp_path / "access.log", tmp_path / "keys.json"
    secret = add_key(keys, "anna")
    url = serve_with(access_log=str(path), keys=str(keys))
    key = {"X-API-Key": secret}
    httpx.get(f"{url}/generate", params={"prompt": "secret"}, headers=key, timeout=60)
    httpx.post(f"{url}/generate", json={"prompt": "secret", "count": 2}, headers=key, timeout=60)
    httpx.get(f"{url}/generate?prompt=secret", timeout=60)
    lines = wait_for_lines(path, 3)
    assert "secret" not in path.read_text()
    assert secret not in path.read_text()
    drawn, several, refused = lines
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]{12}\+00:00", drawn.pop("time"))
    assert drawn.pop("ms") > 0
    assert drawn.pop("bytes") > 100
    assert drawn == {
        "method": "GET",
        "path": "/generate",
        "status": 200,
        "address": "127.0.0.1",
        "key": "anna",
        "model": "fake",
        "pictures": 1,
    }
    assert several["pictures"] == 2
    assert refused["status"] == 401
    assert "key" not in refused


def test_prompts_are_logged_where_asked(serve_with: Make, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    url = serve_with(access_log=str(path), log_prompts=True)
    httpx.post(f"{url}/generate", json={"prompt": 'line\n"two"'}, timeout=60)
    assert wait_for_lines(path, 1)[0]["prompt"] == 'line\n"two"'


def test_a_rotated_log_is_opened_anew(serve_with: Make, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    url = serve_with(access_log=str(path))
    httpx.get(f"{url}/livez", timeout=60)
    wait_for_lines(path, 1)
    path.rename(tmp_path / "access.log.1")
    httpx.get(f"{url}/readyz", timeout=60)
    while not path.exists():
        time.sleep(0.01)
    assert wait_for_lines(path, 1)[0]["path"] == "/readyz"


def test_a_full_disk_loses_lines_and_no_request(
    serve_with: Make, caplog: pytest.LogCaptureFixture
) -> None:
    url = serve_with(access_log="/dev/full")
    for _ in range(3):
        assert httpx.post(f"{url}/generate", json={"prompt": "a"}, timeout=60).status_code == 200
    lost = 0.0
    while lost < 3:
        text = httpx.get(f"{url}/metrics", timeout=60).text
        found = re.search(r"^sidestep_lost_log_lines_total (\S+)$", text, re.M)
        assert found is not None
        lost = float(found[1])
    assert caplog.text.count("the access log cannot be written") == 1
    assert "No space left" in caplog.text


def test_a_log_that_cannot_be_opened_is_named(serve_with: Make, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"access_log: .*nope"):
        serve_with(access_log=str(tmp_path / "nope" / "access.log"))
