"""Several services behind one address: what any of them may answer, and what each keeps itself."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import httpx
import pytest

pytestmark = pytest.mark.slow
A_MINUTE = 16


@pytest.fixture(scope="module")
def replicas(
    serving: Callable[..., AbstractContextManager[subprocess.Popen[str]]],
    free_port: Callable[[], int],
    checkout: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[list[httpx.Client]]:
    """Two services of their own processes."""
    flags = ("--engine", "fake", "--rate-per-address", str(A_MINUTE))
    place, model = tmp_path_factory.mktemp("replicas"), checkout / "models" / "emoji"
    with ExitStack() as open_ones:
        clients = []
        for port in (free_port(), free_port()):
            open_ones.enter_context(serving(model, port, place, *flags))
            client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)
            clients.append(open_ones.enter_context(client))
        yield clients


def test_any_replica_draws_the_same_picture_under_the_same_tag(
    replicas: list[httpx.Client],
) -> None:
    first, second = (one.get("/generate?prompt=red+apple&seed=7") for one in replicas)
    assert first.content == second.content
    assert first.headers["etag"] == second.headers["etag"]
    known = {"If-None-Match": first.headers["etag"]}
    assert replicas[1].get("/generate?prompt=red+apple&seed=7", headers=known).status_code == 304


def test_the_page_may_come_from_one_and_its_pictures_from_another(
    replicas: list[httpx.Client],
) -> None:
    pages = [one.get("/ui/").text for one in replicas]
    (files,) = {word.split("/")[0] for word in pages[0].split('"') if word.startswith("page-")}
    assert replicas[1].get(f"/ui/{files}/page.js").status_code == 200
    call = {"data": ["red apple", "7", 1, "", "a-tab"]}
    answer = replicas[1].post("/ui/gradio_api/run/draw", json=call)
    assert "pictures" in answer.text, answer.text


def test_rates_are_each_replicas_own(replicas: list[httpx.Client]) -> None:
    asked = {"prompt": "a", "count": A_MINUTE // 2}
    codes = [[one.post("/generate", json=asked).status_code for _ in range(3)] for one in replicas]
    assert [one[0] for one in codes] == [200, 200]
    assert [one[-1] for one in codes] == [429, 429]
