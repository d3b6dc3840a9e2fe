"""Two services under load by turns: bare sockets, and once the real ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from bench import batching
from bench.bare_engine import BareEngine
from bench.batching import FLOOR, OURS, THEIRS, Plan, measure
from bench.http_client import Target
from bench.markdown import report_text
from sidestep.cli.main import main
from sidestep.engines.fake import FakeEngine

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LOADS = ["one caller", "25% of the engine", "50% of the engine", "80% of the engine", "32 callers"]
SCHEMA = Path(__file__).parents[2] / "docs" / "bench-schema.json"
Serve = Callable[..., Any]  # the fixture `raw_server`


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> BareEngine:
    """One that takes 20 + 2n ms, as timed before."""
    monkeypatch.setattr(batching, "WARM_S", 0.1)
    return BareEngine("fake", FakeEngine(tokens=12), {n: 0.02 + 0.002 * n for n in (1, 2, 4, 8)})


async def good(index: int) -> bytes:
    return GOOD


async def test_both_are_loaded_in_every_way(raw_server: Serve, engine: BareEngine) -> None:
    async with raw_server(good) as ours, raw_server(good) as theirs:
        services = {OURS: ours.target, THEIRS: theirs.target}
        report = await measure(services, engine, Plan(rounds=6, seconds=0.05))
    assert report.failed is None
    assert list(dict.fromkeys(row["load"] for row in report.rows)) == LOADS
    for row in report.rows:
        if row["service"] == FLOOR:
            assert row["codes"] == {}
            assert "of the engine" in row["load"]
        else:
            assert row["codes"] == {"200": row["answered"]}
            assert row["errors"] == 0
            assert row["pictures_per_s"]["low"] <= row["pictures_per_s"]["value"]
        assert (row["times_as_long"] is not None) == (row["service"] == THEIRS)
    # The same requests at the same moments: 6 turns of 50 ms at a quarter of 222/s.
    quarter = [row["answered"] for row in report.rows if row["load"] == LOADS[1]]
    assert quarter == [18, 18, 18]
    assert f"| 32 callers | {THEIRS} |" in report_text(report)


async def test_the_floor_is_that_of_the_engine_alone(raw_server: Serve, engine: BareEngine) -> None:
    """A lone request waits for one call of 22 ms, a crowded one for others', too."""
    async with raw_server(good) as ours, raw_server(good) as theirs:
        services = {OURS: ours.target, THEIRS: theirs.target}
        report = await measure(services, engine, Plan(rounds=6, seconds=0.05))
    floors = [row["p50_ms"]["value"] for row in report.rows if row["service"] == FLOOR]
    assert all(floor >= 22 for floor in floors)
    assert floors == sorted(floors)


async def test_a_service_that_fails_is_named_and_costs_nothing(
    raw_server: Serve, engine: BareEngine
) -> None:
    async def fails(index: int) -> bytes:
        return GOOD.replace(b"200 OK", b"500 Oh")

    async with raw_server(good) as ours, raw_server(fails) as theirs:
        services: dict[str, Target] = {OURS: ours.target, THEIRS: theirs.target}
        report = await measure(services, engine, Plan(rounds=1, seconds=0.2))
    assert report.failed is not None
    assert report.failed.startswith(f"{THEIRS}, one caller: ")
    assert "500" in report.failed
    mine, other = report.rows
    assert (mine["service"], mine["errors"]) == (OURS, 0)
    assert mine["answered"] > 0
    assert (other["answered"], other["p50_ms"], other["times_as_long"]) == (0, None, None)


@pytest.mark.slow
def test_the_real_ones_draw_every_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "batching.json"
    arguments = ["--engine", "fake", "--rounds", "1", "--seconds", "1", "--out", str(out)]
    monkeypatch.setattr("sys.argv", ["sidestep", "bench", "batching", *arguments])
    main(["bench", "batching", *arguments])
    written = json.loads(out.read_text())
    jsonschema_rs.validator_for(json.loads(SCHEMA.read_text())).validate(written)
    assert written["command"].startswith("sidestep bench batching --engine fake")
    assert {row["service"] for row in written["rows"]} == {OURS, THEIRS, FLOOR}
    assert all(row["answered"] for row in written["rows"])
    assert written["failed"] is None, written["failed"]
    assert "32 callers" in capsys.readouterr().out
