"""A report as Markdown, for a terminal or a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.reports import Report
from bench.stats import PERCENTS


def report_text(report: Report) -> str:
    """Write the tables of a report, and what to know before believing them."""
    write = _WRITERS.get(report.kind, _anything)
    return "\n\n".join(part for part in (_warnings(report), write(report), _where(report)) if part)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def number(value: Any, unit: str = "") -> str:
    """Write a figure to three digits; a dash where it is absent."""
    if value is None:
        return "-"
    if isinstance(value, float):
        digits = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
        return digits + unit
    return f"{value:,}{unit}" if isinstance(value, int) else str(value)


def estimate(told: Mapping[str, float] | None) -> str:
    """Write a figure with its 95% interval."""
    if told is None:
        return "-"
    return f"{number(told['value'])} ({number(told['low'])} to {number(told['high'])})"


def _warnings(report: Report) -> str:
    lines = []
    if report.invalid_because:
        lines.append("**These speeds are invalid:**")
        lines += [f"- {reason}" for reason in report.invalid_because]
    if report.failed:
        lines.append(f"**The run ended early or with faults:** {report.failed}")
    lines += [f"Note: {note}" for note in report.notes]
    return "\n".join(lines)


def _gpu(gpu: Mapping[str, Any]) -> str:
    """Name a GPU, with the clock that it kept under load, or that of before where none was seen."""
    loaded = gpu.get("loaded")
    clock = f"{gpu['clock_sm_mhz']} of {gpu['clock_sm_most_mhz']} MHz"
    if loaded:
        clock = (
            f"{loaded['clock_sm_median_mhz']:g} of {gpu['clock_sm_most_mhz']} MHz under load "
            f"(least {loaded['clock_sm_least_mhz']:g}, most {loaded['power_most_w']:g} W, "
            f"{loaded['temperature_most_c']:g} °C)"
        )
    return f"{gpu['name']}, driver {gpu['driver']}, {clock}, power cap {gpu['power_cap_w']} W"


def _where(report: Report) -> str:
    machine = report.machine
    loads = f"{number(machine['load_average'])} before and {number(report.load_average_at_end)}"
    gpus = "; ".join(map(_gpu, machine["gpus"]))
    parts = [
        f"`{report.command}`",
        f"{machine['cpu']}; {machine['cores']} cores, {number(machine['ram_gib'])} GiB, "
        f"load average {loads} after",
        gpus or "no GPU",
        ", ".join(f"{name} {version}" for name, version in report.versions.items()),
        f"commit {report.commit or 'unknown'}, {report.date}",
    ]
    return "\n".join(f"- {part}" for part in parts)


def _engine(report: Report) -> str:
    latencies = [
        [
            row["name"] + _threads(row["threads"]),
            str(row["batch"]),
            *(estimate(row["latency_ms"][name]) for name in ("p50", "p95", "p99")),
            number(row["latency_ms"]["n"]),
            estimate(row["images_per_s"]),
            estimate(row["times_as_long"]),
        ]
        for row in report.rows
    ]
    headings = ["engine", "batch", "p50 ms", "p95 ms", "p99 ms", "n", "images/s", "times as long"]
    parts = [table(headings, latencies), _too_few(report.rows), _costs(report), _contenders(report)]
    return "\n\n".join(part for part in parts if part)


def _threads(count: int | None) -> str:
    return "" if count is None else f", {count} thread{'s' if count > 1 else ''}"


def _too_few(rows: Sequence[Mapping[str, Any]]) -> str:
    missing = sorted({missing for row in rows for missing in row["latency_ms"]["too_few_for"]})
    return f"Too few samples in some rows: {', '.join(missing)}." if missing else ""


def _costs(report: Report) -> str:
    """Write where the time goes, and what the arithmetic alone would take."""
    names = sorted({n for row in report.rows for n in row["stages_ms"]}, key=_STAGES.index)
    rows = [
        [
            row["name"],
            str(row["batch"]),
            *(number(row["stages_ms"].get(name)) for name in names),
            number(row["tflops"]),
            number(row["percent_of_peak"], " %"),
            number(row["floor_ms"]),
            number(row["build_s"]),
        ]
        for row in report.rows
    ]
    headings = [*(f"{n} ms" for n in names), "TFLOP/s", "of peak", "floor ms", "compile s"]
    told = table(["engine", "batch", *headings], rows)
    flops, peak = report.figures.get("flops"), report.figures.get("peak")
    if not flops or not peak:
        return told
    counted = ", ".join(f"{name} {value / 1e9:,.2f}" for name, value in flops.items())
    best = max(peak["matmul_tflops"], peak["convolution_tflops"])
    return (
        f"{told}\n\nOperations of one picture, GFLOP: {counted}. The machine's peak in "
        f"{peak['precision']}, measured in this run: {number(best)} TFLOP/s (matrix products "
        f"{number(peak['matmul_tflops'])}, convolutions {number(peak['convolution_tflops'])}). The "
        "floor is operations divided by that peak."
    )


_STAGES = ("tokenise", "noise", "text", "unet", "decoder", "png", "jpeg")


def _contenders(report: Report) -> str:
    rows = [
        [
            one["name"],
            one["precision"],
            number(one["cold_start_s"]),
            number(one["open_s"]),
            number(one["first_call_s"]),
            number(one["build_s"]),
            number(one["rss_peak_mib"]),
            number(one["device_peak_mib"]),
            number(one["largest_difference"]),
        ]
        for one in report.figures["contenders"]
    ]
    headings = ["engine", "precision", "cold start s", "open s", "first call s", "build s"]
    headings += ["peak RSS MiB", "device MiB", "largest difference"]
    notes = [f"{one['name']} was left out: {one['why']}" for one in report.figures["absent"]]
    notes += [
        f"{one['name']}: {', '.join(f'{name} {v}' for name, v in one['versions'].items())}."
        for one in report.figures["contenders"]
        if one.get("versions")
    ]
    notes += [
        f"**{one['name']} {fault}: its speed does not compare.**"
        for one in report.figures["contenders"]
        if not one["ours"]
        for fault in one["faults"]
    ]
    return "\n\n".join([table(headings, rows), *notes])


def _http(report: Report) -> str:
    rows = [
        [
            loop_name(row),
            number(row["requests"]),
            number(row["answered_per_s"]),
            *(estimate(row["latency_ms"][name]) for name in ("p50", "p95", "p99")),
            number(row["within_slo_percent"], " %"),
            {True: "yes", False: "no", None: "-"}[row["slo_kept"]],
            _answers(row),
        ]
        for row in report.rows
    ]
    latencies = [f"p{percent} ms of answered" for percent in PERCENTS]
    headings = ["loop", "requests", "pictures/s", *latencies, "in time", "kept", "answers"]
    parts = [_verdict(report), table(headings, rows), _too_few(report.rows)]
    return "\n\n".join(part for part in [*parts, _splits(report)] if part)


def _answers(row: Mapping[str, Any]) -> str:
    told = [f"{count} x {code}" for code, count in row["codes"].items()]
    repeated = row.get("repeated", 0)  # which older reports have not
    return ", ".join(told + [f"{repeated} of them asked for twice"] * bool(repeated))


def loop_name(row: Mapping[str, Any]) -> str:
    """Name a loop of requests by its callers or its rate."""
    if row["loop"] == "closed":
        purpose = row.get("purpose")
        return f"closed, {row['callers']} callers" + (f" ({purpose})" if purpose else "")
    return f"open, {number(row['asked_per_second'])}/s"


def _verdict(report: Report) -> str:
    kept, missed = (report.figures[name] for name in ("largest_rate_kept", "smallest_rate_missed"))
    lines = []
    if kept is not None:
        above = "" if missed is None else f"; missed at {number(missed)}"
        lines.append(f"**{report.figures['slo']} is kept up to {number(kept)} requests/s**{above}.")
    if report.figures["generator_late"]:
        lines.append(
            "The load generator itself was late: it has too little of the machine, and latencies "
            "contain its delay."
        )
    return " ".join(lines)


def _splits(report: Report) -> str:
    names = ("queue", "engine", "encode", "network")
    rows = [
        [
            loop_name(row),
            *(
                f"{number(row['split_ms'][n]['p50'])} / {number(row['split_ms'][n]['p99'])}"
                if n in row["split_ms"]
                else "-"
                for n in names
            ),
            ", ".join(f"{size}: {count:,}" for size, count in row["batches"].items()) or "-",
        ]
        for row in report.rows
        if row["split_ms"]
    ]
    headings = ["loop", *(f"{name} p50 / p99 ms" for name in names), "pictures by batch size"]
    return table(headings, rows) if rows else ""


def _anything(report: Report) -> str:
    """Write the rows of a benchmark that has no writer of its own."""
    names = list(dict.fromkeys(key for row in report.rows for key in row))
    shown = [n for n in names if all(_plain(row.get(n)) for row in report.rows)]
    rows = [[_cell(row.get(name)) for name in shown] for row in report.rows]
    return table(shown, rows) if rows else ""


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float) or _is_estimate(value)


def _is_estimate(value: Any) -> bool:
    return isinstance(value, Mapping) and set(value) == {"value", "low", "high"}


def _cell(value: Any) -> str:
    return estimate(value) if _is_estimate(value) else number(value)


def ablation_text(report: Report) -> str:
    """Write an ablation's tables, one for each of its questions, below what all compare with."""
    known, parts = [row for row in report.rows if not row["question"]], []
    for question in dict.fromkeys(row["question"] for row in report.rows if row["question"]):
        rows = [*known, *(row for row in report.rows if row["question"] == question)]
        shown = [name for name in rows[0] if any(row[name] is not None for row in rows)]
        shown.remove("question")
        cells = [[_cell(row[name]) for name in shown] for row in rows]
        parts.append(f"{question[:1].upper()}{question[1:]}:\n\n{table(shown, cells)}")
    return "\n\n".join(parts)


_WRITERS = {"engine": _engine, "http": _http, "ablation": ablation_text}
