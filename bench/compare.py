"""Two reports side by side: ratios with intervals, and a refusal where they do not compare."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from bench.markdown import estimate, loop_name, number, table
from bench.reports import Report
from bench.stats import Estimate, Values, blocks, ratio_of_rounds_estimate, told_estimate
from sidestep.errors import InvalidRequest

TIMED = ("engine", "http")  # the kinds whose rows keep every time
_MENDS = {
    "engine": "measure both with a batch size in common (--batches)",
    "http": "measure both with the same --rate R",
}


def compare(before: Report, after: Report, *, even_if_different: bool = False) -> str:
    """Write how many times as long each row of `after` takes as the same row of `before`.

    Rows are the same if their engine and batch size, or their loop and rate, are. Where each
    report has one engine, the engines may differ. Searches for the largest rate are compared by
    what they found, since each tries rates of its own.
    Raises InvalidRequest for reports of different models, prompts, bodies, paths, promises or
    machines, unless it is asked for, and for reports of different kinds, or with nothing in common.
    """
    if before.kind != after.kind:
        raise InvalidRequest(f"a report of kind {before.kind} is none of {after.kind}")
    if before.kind not in TIMED:
        raise InvalidRequest(
            f"reports of kind {before.kind} have no rows to compare, only those of "
            f"{' and '.join(TIMED)}"
        )
    different = _differences(before, after)
    if different and not even_if_different:
        raise InvalidRequest(
            f"the reports differ in {' and '.join(different)}; "
            "--even-if-different compares them all the same"
        )
    rows = [[label, *_compared(first, second)] for label, first, second in _pairs(before, after)]
    rates = _rates(before, after)
    if not rows and not rates:
        raise InvalidRequest(f"the reports have no row in common; {_MENDS[before.kind]}")
    told = [f"**They differ in {' and '.join(different)}.**"] if different else []
    for name, report in (("before", before), ("after", after)):
        told += [f"**{name} is invalid:** {reason}" for reason in report.invalid_because]
        told += [f"**{name} ended early or with faults:** {report.failed}"] if report.failed else []
    if rates:
        told.append(table(["what", "before", "after", "verdict"], [rates]))
    if rows:
        headings = ["p50 before ms", "p50 after ms", "times as long (95% interval)", "verdict"]
        told.append(table(["what", *headings], rows))
    return "\n\n".join(told)


def _differences(before: Report, after: Report) -> list[str]:
    found = []
    weights = [(report.model or {}).get("weights") for report in (before, after)]
    if weights[0] != weights[1]:
        found.append("model")
    if list(before.prompts) != list(after.prompts) or list(before.seeds) != list(after.seeds):
        found.append("prompts")
    if before.settings.get("body") != after.settings.get("body"):
        found.append("bodies")
    if before.settings.get("path") != after.settings.get("path"):
        found.append("path")
    if before.figures.get("slo") != after.figures.get("slo"):
        found.append("promise")
    if _machine(before) != _machine(after):
        found.append("machine")
    return found


def _machine(report: Report) -> tuple[Any, ...]:
    machine = report.machine
    return machine["cpu"], machine["cores"], [gpu["name"] for gpu in machine["gpus"]]


def _rates(before: Report, after: Report) -> list[str]:
    """Compare the largest rates at which the promise was kept, if both were searched.

    Each lies between the largest that was kept and the smallest that was missed.
    """
    (kept, missed), (kept_after, missed_after) = map(_found, (before, after))
    if kept is None or kept_after is None:
        return []
    verdict = "no difference shown"
    if kept_after >= missed:
        verdict = "more"
    elif missed_after <= kept:
        verdict = "fewer"
    promises = dict.fromkeys(report.figures["slo"] for report in (before, after))
    spans = [_span(kept, missed), _span(kept_after, missed_after)]
    return [f"largest rate of {' -> '.join(promises)}", *spans, verdict]


def _found(report: Report) -> tuple[float | None, float]:
    missed = report.figures.get("smallest_rate_missed")
    return report.figures.get("largest_rate_kept"), math.inf if missed is None else missed


def _span(kept: float, missed: float) -> str:
    return f"{number(kept)} to {'more' if math.isinf(missed) else number(missed)} requests/s"


def _pairs(before: Report, after: Report) -> list[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    alone = all(len({row.get("name") for row in report.rows}) == 1 for report in (before, after))
    first, second = (
        {_key(row, named=not alone): row for row in report.rows} for report in (before, after)
    )
    return [
        (_label(first[key], second[key]), first[key], second[key]) for key in first if key in second
    ]


def _key(row: Mapping[str, Any], *, named: bool) -> tuple[Any, ...]:
    if "batch" in row:
        return (row["name"] if named else "", row["batch"])
    return (row["loop"], row["asked_per_second"], row["callers"], row.get("purpose"))


def _label(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    if "batch" not in first:
        return loop_name(first)
    names = dict.fromkeys((first["name"], second["name"]))
    return f"{' -> '.join(names)}, batch {first['batch']}"


def _compared(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    ratio = ratio_of_rounds_estimate(_rounds(second), _rounds(first))
    medians = [estimate(row["latency_ms"]["p50"]) for row in (first, second)]
    told = estimate(told_estimate(ratio))
    return [*medians, told, _verdict(ratio) + _answered(first, second)]


def _rounds(row: Mapping[str, Any]) -> Sequence[Values]:
    return row["rounds_ms"] if "rounds_ms" in row else blocks(row["samples_ms"])


def _answered(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """Tell of requests that were refused or failed, since times are those of the others."""
    if "requests" not in first:
        return ""
    shares = [row["latency_ms"]["n"] / max(1, row["requests"]) for row in (first, second)]
    return "" if min(shares) == 1 else f", of {shares[0]:.0%} and {shares[1]:.0%} answered"


def _verdict(ratio: Estimate | None) -> str:
    if ratio is None:
        return "too few samples"
    if ratio.low <= 1 <= ratio.high:
        return "no difference shown"
    return "faster" if ratio.high < 1 else "slower"
