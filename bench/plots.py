"""Plots of reports and logs as PNG files. Needs matplotlib, of the extra [plots]."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.reports import Report
from sidestep.errors import BackendUnavailable, InvalidData
from sidestep.files import atomic_path


def plot_report(report: Report, path: Path) -> bool:
    """Draw what suits a report's kind; False for a kind that has no plot."""
    if report.kind == "engine":
        latency_against_batch(report, path)
    elif report.kind == "http" and any(row["loop"] == "open" for row in report.rows):
        throughput_against_slo(report, path)
    elif report.kind == "ablation":
        fid_against_clip(_cases(report), path)
    else:
        return False
    return True


def latency_against_batch(report: Report, path: Path) -> None:
    """Draw each engine's median latency over the batch size, with its 95% interval."""
    with _axes(path) as axes:
        for name in dict.fromkeys(row["name"] for row in report.rows):
            rows = [r for r in report.rows if r["name"] == name and r["latency_ms"]["p50"]]
            medians = [row["latency_ms"]["p50"] for row in rows]
            values = [m["value"] for m in medians]
            errors = [
                [m["value"] - m["low"] for m in medians],
                [m["high"] - m["value"] for m in medians],
            ]
            batches = [row["batch"] for row in rows]
            axes.errorbar(batches, values, errors, marker="o", capsize=3, label=name)
        floors = {row["batch"]: row["floor_ms"] for row in report.rows if row["floor_ms"]}
        if floors:
            axes.plot(list(floors), list(floors.values()), "k:", label="floor (measured peak)")
        axes.set(xscale="log", yscale="log", xlabel="batch size", ylabel="latency, ms (median)")
        axes.set_xticks(sorted({row["batch"] for row in report.rows}))
        axes.get_xaxis().set_major_formatter("{x:g}")


def throughput_against_slo(report: Report, path: Path) -> None:
    """Draw latency percentiles over the rate of an open loop, and where the promise ends."""
    rows = sorted(
        (row for row in report.rows if row["loop"] == "open"),
        key=lambda row: float(row["asked_per_second"]),
    )
    with _axes(path) as axes:
        for name in ("p50", "p95", "p99"):
            told = [(r["asked_per_second"], r["latency_ms"][name]) for r in rows]
            points = [(rate, value["value"]) for rate, value in told if value]
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", label=name)
        axes.axhline(report.settings["slo_ms"], color="black", linestyle=":", label="SLO")
        if kept := report.figures["largest_rate_kept"]:
            axes.axvline(kept, color="grey", linestyle="--", label=f"kept up to {kept:.3g}/s")
        axes.set(yscale="log", xlabel="requests per second (Poisson)")
        axes.set_ylabel("latency of answered requests, ms")


def fid_against_clip(points: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw FID over CLIP score: better is lower right.

    points: mappings with `fid`, `clip`, `label` and `name`, whose points are of one colour
    """
    with _axes(path) as axes:
        for name in dict.fromkeys(point["name"] for point in points):
            ours = [point for point in points if point["name"] == name]
            axes.plot([p["clip"] for p in ours], [p["fid"] for p in ours], "o", label=name)
            for point in ours:
                place = (point["clip"], point["fid"])
                axes.annotate(
                    point["label"],
                    place,
                    textcoords="offset points",
                    xytext=(5, 5),
                    fontsize="small",
                )
        axes.margins(0.2)
        axes.set(xlabel="CLIP score", ylabel="Fréchet distance")


def _cases(report: Report) -> list[dict[str, Any]]:
    """Take an ablation's first question, of strategies and κ, and what they are compared with."""
    questions = list(dict.fromkeys(row["question"] for row in report.rows))[:2]
    return [
        {
            "name": row["question"] or "compared with",
            "label": row["case"],
            "fid": row["frechet"],
            "clip": row["clip"],
        }
        for row in report.rows
        if row["question"] in questions
    ]


def training_curves(log: Path, path: Path) -> None:
    """Draw everything that a training's `log.jsonl` tells over its steps.

    Raises InvalidData for a log that cannot be read or is empty.
    """
    curves: dict[str, list[tuple[int, float]]] = {}
    try:
        for line in log.read_text(encoding="utf-8").splitlines():
            values = json.loads(line)
            step = int(values.pop("step"))
            for name, value in values.items():
                curves.setdefault(name, []).append((step, float(value)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidData(f"{log} is not a training's log ({error!r})") from error
    if not curves:
        raise InvalidData(f"{log} is empty; train first")
    with _figure(path) as figure:
        grid = figure.subplots(len(curves), 1, sharex=True, squeeze=False)
        figure.set_size_inches(7, 2 * len(curves) + 1)
        for axes, (name, points) in zip(grid[:, 0], curves.items(), strict=True):
            axes.plot(*zip(*points, strict=True))
            axes.set_ylabel(name)
        grid[-1, 0].set_xlabel("step")


@contextmanager
def _axes(path: Path) -> Iterator[Any]:
    with _figure(path) as figure:
        axes = figure.subplots()
        yield axes
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend()


@contextmanager
def _figure(path: Path) -> Iterator[Any]:
    """Give a figure of its own to draw on, without a window, and write it as PNG."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise BackendUnavailable("matplotlib", "plots") from error
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    yield figure
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})
