from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter

from serve import access_log
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


def lost_lines(url: str) -> float:
    text = httpx.get(f"{url}/metrics", timeout=60).text
    found = re.search(r"^sidestep_lost_log_lines_total (\S+)$", text, re.M)
    assert found is not None
    return float(found[1])


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


def test_a_log_whose_folder_was_away_goes_on(
    serve_with: Make, tmp_path: Path, wait_until: Callable[[Callable[[], bool]], None]
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    path = folder / "access.log"
    url = serve_with(access_log=str(path))
    httpx.get(f"{url}/livez", timeout=60)
    wait_for_lines(path, 1)
    folder.rename(tmp_path / "away")
    wait_until(lambda: lost_lines(url) > 0)
    folder.mkdir()
    assert httpx.get(f"{url}/readyz", timeout=60).status_code == 200
    wait_until(lambda: path.exists() and '"/readyz"' in path.read_text())


def test_what_waits_is_written_before_a_full_queue_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_log, "MOST_WAITING", 2)
    path, lost = tmp_path / "slow", Counter("lost", "lines", registry=CollectorRegistry())
    os.mkfifo(path)
    reader = os.open(path, os.O_RDWR)
    log = access_log.AccessLog(str(path), lost)
    log.write({"line": 0, "long": "-" * 1_000_000})  # more than a pipe holds
    written = os.read(reader, 1)  # so the thread writes, and takes nothing more
    for number in (1, 2, 3):
        log.write({"line": number})
    with ThreadPoolExecutor(1) as pool:
        closed = pool.submit(log.close)
        while written.count(b"\n") < 3:
            written += os.read(reader, 65_536)
        closed.result(60)
    os.close(reader)
    assert [json.loads(line)["line"] for line in written.splitlines()] == [0, 1, 2]
    assert next(iter(lost.collect())).samples[0].value == 1


def test_a_full_disk_loses_lines_and_no_request(
    serve_with: Make, caplog: pytest.LogCaptureFixture
) -> None:
    url = serve_with(access_log="/dev/full")
    for _ in range(3):
        assert httpx.post(f"{url}/generate", json={"prompt": "a"}, timeout=60).status_code == 200
    while lost_lines(url) < 3:
        time.sleep(0.01)
    assert caplog.text.count("the access log cannot be written") == 1
    assert "No space left" in caplog.text


def test_a_log_that_cannot_be_opened_is_named(serve_with: Make, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"access_log: .*nope"):
        serve_with(access_log=str(tmp_path / "nope" / "access.log"))
