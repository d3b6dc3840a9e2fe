"""`sidestep bench`: what is measured, and what becomes of the figures."""

from __future__ import annotations

import click

from sidestep.cli.lazy import LazyGroup

# name -> (module in sidestep.cli, one line of help)
COMMANDS = {
    "engine": ("bench_engine", "Measure engines, beside what others make of the same weights."),
    "http": ("bench_http", "Load a service and find the rate at which it keeps its promise."),
    "batching": ("bench_batching", "Load the service and BentoML's own batching by turns."),
    "distill": ("bench_distill", "Measure how fast a distillation trains."),
    "ablation": ("bench_ablation", "Judge one student for each way to distil."),
    "compare": ("bench_compare", "Compare two reports: ratios with intervals."),
    "report": ("bench_report", "Make Markdown and plots of a folder of reports."),
}


@click.group(cls=LazyGroup, table=COMMANDS)
def command() -> None:
    """Measure, and say on which machine, with which command.

    Each benchmark writes a JSON report (docs/bench-schema.json) when it is given --out.

    \b
    sidestep bench engine --against diffusers --out engine.json
    sidestep bench http --model models/emoji --out http.json
    sidestep bench compare before.json after.json
    sidestep bench report docs/benchmarks -o docs/benchmarks.md
    """
