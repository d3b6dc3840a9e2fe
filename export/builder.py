"""Build a plan in a process of its own.

A fault in TensorRT's builder ends its process without an exception, and a signal is lost in it. In
a process of its own the one is an error like others and the other ends it at once. The two speak
through JSON files beside the graph: `python -m export.builder REQUEST` writes the plan and then
what it found, or the line that says why not.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from export.options import ExportOptions
from export.tensorrt import Plan, build_plan
from sidestep.engines.manifest import PLAN
from sidestep.engines.tensorrt_library import load_library
from sidestep.errors import CompileFailed, SidestepError
from sidestep.files import write_json
from sidestep.model_folder import ModelCard

COMMAND = (sys.executable, "-m", "export.builder")


def compile_plan(graph: Path, card: ModelCard, options: ExportOptions) -> Plan:
    """Build the plan of `graph` beside it and wait for it, or end it where this one is ended.

    Raises CompileFailed where the library refuses the graph, or fails.
    """
    request, answer, told = (graph.with_name(n) for n in ("request.json", "answer.json", "stderr"))
    answer.unlink(missing_ok=True)
    shapes = {"tokens": card.tokens, "latent_shape": card.latent_shape, "steps": card.steps}
    write_json(
        request,
        {
            "graph": str(graph.absolute()),
            "answer": str(answer.absolute()),
            "card": {"name": card.name, "image_size": card.image_size, "schedule": {}, **shapes},
            "options": asdict(options),
        },
    )
    here = str(Path(__file__).parents[1])
    paths = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
    with told.open("wb") as stderr:
        process = subprocess.Popen(
            [*COMMAND, str(request.absolute())],
            env={**os.environ, "PYTHONPATH": paths},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
        try:
            code = process.wait()
        except BaseException:  # Ctrl-C, or the exit that a SIGTERM asks for
            process.kill()
            process.wait()
            raise
    return _read(answer, graph, options.to, _end_of(code, told))


def _read(answer: Path, graph: Path, library: str, end: str) -> Plan:
    """Read what the builder found; without an answer, `end` says how it ended."""
    if not answer.is_file():
        raise CompileFailed(f"the builder of {library} {end}; export to ONNX instead")
    found = json.loads(answer.read_text(encoding="utf-8"))
    if "error" in found:
        raise CompileFailed(found["error"])
    plan = graph.with_name(PLAN)
    return Plan(plan, plan.stat().st_size, found["tensors"], found["layer_types"])


def _end_of(code: int, told: Path) -> str:
    """Tell in a few words how a process ended: its signal, or its last line."""
    if code < 0:
        return f"ended with {signal.Signals(-code).name}"
    lines = told.read_text(encoding="utf-8", errors="replace").split("\n")
    last = next((" ".join(line.split()) for line in reversed(lines) if line.strip()), "no reason")
    return f"failed ({last[:300]})"


def main(request: Path) -> None:
    """Build what `request` asks for, write the plan, and last the answer."""
    asked = json.loads(request.read_text(encoding="utf-8"))
    graph = Path(asked["graph"])
    options = ExportOptions(**{**asked["options"], "buckets": tuple(asked["options"]["buckets"])})
    found: dict[str, Any]
    try:
        built = build_plan(load_library(options.to), graph, ModelCard(**asked["card"]), options)
        graph.with_name(PLAN).write_bytes(built.data)
        found = {"tensors": built.tensors, "layer_types": built.layer_types}
    except (SidestepError, OSError) as error:
        found = {"error": str(error)}
    write_json(Path(asked["answer"]), found)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
