"""Reports on disk, compared, plotted, and made into the page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema_rs
import numpy as np
import pytest

from bench.compare import compare
from bench.machine import machine, nvidia_smi
from bench.markdown import report_text
from bench.page import SECTIONS, page_text, read_reports, write_page
from bench.peers import thread_counts
from bench.plots import plot_report, training_curves
from bench.reports import Report, dump
from bench.stats import blocks, summary
from sidestep.errors import InvalidData, InvalidRequest

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "docs" / "bench-schema.json").read_text())


def http_report(ms: float = 10.0, **changes: Any) -> Report:
    latencies = np.random.default_rng(0).normal(ms, ms / 20, 400)
    rows = [
        {
            "loop": "open",
            "asked_per_second": rate,
            "callers": None,
            "requests": 400,
            "codes": {"200": 400},
            "answered_per_s": rate,
            "within_slo_percent": 100.0,
            "slo_kept": rate < 40,
            "latency_ms": summary(blocks(latencies * rate / 20)),
            "split_ms": {"queue": {"p50": 1.0, "p99": 2.0}},
            "batches": {"1": 390, "2": 10},
            "lateness_p99_ms": 0.1,
            "samples_ms": [round(float(v), 2) for v in latencies * rate / 20],
        }
        for rate in (20.0, 40.0)
    ]
    values: dict[str, Any] = {
        "kind": "http",
        "rows": rows,
        "prompts": ["red apple"],
        "settings": {"slo_ms": 100.0},
        "figures": {
            "slo": "p99 <= 100 ms",
            "largest_rate_kept": 20.0,
            "smallest_rate_missed": 40.0,
            "generator_late": False,
        },
    }
    return Report(**{**values, **changes})


def test_a_report_comes_back_from_disk(tmp_path: Path) -> None:
    report = http_report()
    report.write(tmp_path / "a.json")
    jsonschema_rs.validator_for(SCHEMA).validate(json.loads((tmp_path / "a.json").read_text()))
    assert report_text(Report.read(tmp_path / "a.json")) == report_text(report)
    assert "kept up to 20 requests/s" in report_text(report)
    assert "| p50 ms of answered | p95 ms of answered | p99 ms of answered |" in report_text(report)


def test_what_is_not_known_is_a_dash_and_what_was_repeated_is_told(tmp_path: Path) -> None:
    report = http_report()
    changed = {"slo_kept": None, "repeated": 3, "purpose": "first guess", "loop": "closed"}
    splits = {"queue": {"p50": 1.0, "p99": None}}
    rows = [{**report.rows[0], **changed, "callers": 8, "split_ms": splits}]
    report = replace(report, rows=rows)
    report.write(tmp_path / "a.json")
    jsonschema_rs.validator_for(SCHEMA).validate(json.loads((tmp_path / "a.json").read_text()))
    text = report_text(report)
    assert "| closed, 8 callers (first guess) | 400 |" in text
    assert "| - | 400 x 200, 3 of them asked for twice |" in text
    assert "| 1 / - |" in text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "has schema None"),
        ('{"schema": "sidestep-bench/0"}', "reads sidestep-bench/1: measure again"),
        ('{"schema": "sidestep-bench/1", "extra": 1}', "missing or unknown: command"),
    ],
)
def test_a_file_that_is_no_report(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InvalidData, match=words):
        Report.read(tmp_path / "a.json")


def test_numbers_stay_on_a_line_and_infinity_is_null() -> None:
    text = dump({"a": [1, 2.5, -1e-07], "b": [float("inf"), 1.0], "c": ["x"]})
    assert '"a": [1, 2.5, -1e-07]' in text
    assert '"b": [null, 1.0]' in text
    assert json.loads(text)["c"] == ["x"]


def test_compare_tells_faster_from_noise() -> None:
    before, after = http_report(10), http_report(5)
    told = compare(before, after)
    assert "0.5 (" in told
    assert "| faster |" in told
    assert "| slower |" in compare(after, before)
    assert "| no difference shown |" in compare(before, before)


def test_compare_tells_of_requests_that_were_refused() -> None:
    before, after = http_report(10), http_report(5)
    for row in after.rows:
        assert isinstance(row, dict)
        row["requests"] = 800
    assert "| faster, of 100% and 50% answered |" in compare(before, after)


def searched(kept: float | None, missed: float | None) -> Report:
    """A search whose rates no other has tried."""
    report = http_report()
    rows = [{**row, "asked_per_second": kept} for row in report.rows[:1]]
    rates = {"largest_rate_kept": kept, "smallest_rate_missed": missed}
    return replace(report, rows=rows, figures={**report.figures, **rates})


@pytest.mark.parametrize(
    ("kept", "missed", "told"),
    [
        (31.0, 33.0, "| 20 to 30 requests/s | 31 to 33 requests/s | more |"),
        (30.0, None, "| 20 to 30 requests/s | 30 to more requests/s | more |"),
        (25.0, 35.0, "| 20 to 30 requests/s | 25 to 35 requests/s | no difference shown |"),
        (0.0, 15.0, "| 20 to 30 requests/s | 0 to 15 requests/s | fewer |"),
    ],
)
def test_compare_tells_what_searches_found(kept: float, missed: float | None, told: str) -> None:
    text = compare(searched(20.0, 30.0), searched(kept, missed))
    assert f"| largest rate of p99 <= 100 ms {told}" in text
    assert "p50 before ms" not in text  # for they share no row


def test_compare_tells_how_to_have_something_in_common() -> None:
    """One report of a search, and one of another rate."""
    with pytest.raises(InvalidRequest, match="no row in common; measure both with the same --rate"):
        compare(searched(20.0, 30.0), replace(searched(None, None), rows=[]))


def test_loops_of_another_purpose_do_not_compare() -> None:
    before = http_report()
    rows = [{**row, "purpose": "first guess"} for row in before.rows]
    figures = {**before.figures, "largest_rate_kept": None}
    with pytest.raises(InvalidRequest, match="no row in common"):
        compare(before, replace(before, rows=rows, figures=figures))


def test_compare_refuses_what_does_not_compare() -> None:
    before = http_report(settings={"path": "/generate"})
    weights = {"name": "a", "weights": "1", "image_size": [8, 8], "method": "x"}
    for other, words in (
        (replace(before, prompts=["octopus"]), "differ in prompts"),
        (replace(before, model=weights), "differ in model"),
        (replace(before, settings={"path": "/generate", "body": {"count": 4}}), "differ in bodies"),
        (replace(before, settings={"path": "/v1/images"}), "differ in path"),
        (replace(before, figures={**before.figures, "slo": "p95 <= 1 ms"}), "differ in promise"),
        (replace(before, machine={**before.machine, "cores": 999}), "differ in machine"),
        (replace(before, machine={**before.machine, "cpu": "another"}), "differ in machine"),
    ):
        with pytest.raises(InvalidRequest, match=words):
            compare(before, other)
        assert "They differ in" in compare(before, other, even_if_different=True)
    with pytest.raises(InvalidRequest, match="kind"):
        compare(before, replace(before, kind="engine"))
    ablations = [replace(before, kind="ablation", rows=[{"question": "", "case": "k2"}])] * 2
    with pytest.raises(InvalidRequest, match="of kind ablation have no rows to compare"):
        compare(*ablations)
    engines = [replace(before, kind="engine", rows=[], figures={})] * 2
    with pytest.raises(InvalidRequest, match="no row in common; measure both with a batch size"):
        compare(*engines)
    invalid = replace(before, invalid_because=["wrong pictures"])
    assert "after is invalid:** wrong pictures" in compare(before, invalid)
    ended = replace(before, failed="the service died")
    assert "before ended early or with faults:** the service died" in compare(ended, before)


def test_a_benchmark_without_a_writer_of_its_own_is_a_table() -> None:
    rows = [{"step": 1, "seconds": {"value": 1.0, "low": 0.9, "high": 1.1}, "raw": [1, 2]}]
    told = report_text(http_report(kind="distill", rows=rows, figures={}))
    assert "| step | seconds |" in told
    assert "| 1 | 1 (0.9 to 1.1) |" in told


def test_the_page_says_what_was_not_measured(tmp_path: Path) -> None:
    source = tmp_path / "reports"
    source.mkdir()
    http_report().write(source / "http-cpu.json")
    http_report(kind="other").write(source / "more.json")
    write_page(source, tmp_path / "page.md", plots=True)
    page = (tmp_path / "page.md").read_text()
    assert page.count("Not yet measured.\n\nTo measure it: `sidestep") == len(SECTIONS) - 1
    assert page.count("To measure it: `") == len(SECTIONS), "also what is measured, to repeat it"
    assert "## more" in page
    assert "(reports/http-cpu.png)" in page
    assert (source / "http-cpu.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InvalidData, match="not a folder of reports"):
        write_page(tmp_path / "nowhere", tmp_path / "page.md", plots=False)


def test_the_repositorys_page_is_made_of_its_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    source, page = Path("docs/benchmarks"), Path("docs/benchmarks.md")
    reports = read_reports(source)
    assert page.read_text(encoding="utf-8") == page_text(reports, source, page)
    for path in source.glob("*.json"):
        jsonschema_rs.validator_for(SCHEMA).validate(json.loads(path.read_text()))


def test_plots(tmp_path: Path) -> None:
    assert plot_report(http_report(), tmp_path / "slo.png")
    assert not plot_report(http_report(kind="other"), tmp_path / "none.png")
    rows = [
        {"question": "strategies", "case": f"lsg{k}", "frechet": k / 50, "clip": 0.7 + k / 100}
        for k in (1.5, 2, 3)
    ]
    assert plot_report(Report("ablation", rows), tmp_path / "fid.png")
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 1, "fake": 0.5}\n{"step": 2, "fake": 0.4, "gib": 1}\n')
    training_curves(log, tmp_path / "curves.png")
    for name in ("slo", "fid", "curves"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "none.png").exists()


@pytest.mark.parametrize("text", ["", "{}", "x", "[1]"])
def test_a_log_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "log.jsonl").write_text(text)
    with pytest.raises(InvalidData):
        training_curves(tmp_path / "log.jsonl", tmp_path / "a.png")


def test_the_machine_is_described() -> None:
    told = machine()
    assert told["cores"] >= 1
    assert told["cpu"]
    assert isinstance(told["gpus"], list)


def test_a_containers_share_is_all_that_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a machine of 64 cores, of which a container may use the time of four."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr("sidestep.engines.cores.cpu_share", lambda: 4.0)
    assert machine()["cores"] == 4
    assert thread_counts() == (1, 2, 4)


def test_gpus_are_read_from_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the tool prints them: one line for each GPU."""
    from bench.machine import gpu_memory_mib, gpus

    tool = tmp_path / "nvidia-smi"
    gpu = "NVIDIA H100 80GB HBM3, 570.1, 81559, 1980, 1980, 2619, 700.00, 31, Disabled"
    tool.write_text(
        f'#!/bin/sh\ncase "$1" in *compute-apps*) echo "42, 1234"; echo "42, 6";; '
        f'*) echo "{gpu}";; esac\n'
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    (told,) = gpus()
    assert (told["name"], told["driver"]) == ("NVIDIA H100 80GB HBM3", "570.1")
    assert told["power_cap_w"] == "700.00"
    assert gpu_memory_mib(42) == 1240
    assert gpu_memory_mib(43) is None
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert nvidia_smi("--query-gpu=name") == []
