"""Pictures of a model's examples at known seeds, in every engine that is there.

For whoever has real weights. Each engine has a process of its own, so that one that crashes is a
line like others, and its memory is given back.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib.util import find_spec
from multiprocessing import get_context
from typing import ParamSpec, TypeVar

import numpy as np

from bench.contender import Contender, Entry, Task
from bench.engine import ALIKE, ALIKE_COARSE
from export.certificate import FEW, LARGE_PX, PROMPTS, Reference
from sidestep.doctor.drawn import Known, draw_with_pytorch, examine, in_one_line
from sidestep.doctor.findings import Finding, note, ok, problem
from sidestep.doctor.found_models import check_model, decoders_of
from sidestep.engines.plans import plans
from sidestep.engines.tensorrt_library import NAMES
from sidestep.errors import EngineMismatch, InvalidModel, SidestepError
from sidestep.model_folder import ONNX, ONNX_FP16, ModelFolder

P = ParamSpec("P")
R = TypeVar("R")
TRAINING = ("torch", "diffusers", "transformers")  # what draws the reference


def check_pictures(folder: ModelFolder) -> Iterator[Finding]:
    """Check a model's files, and what each of its engines draws with each of its decoders."""
    try:
        for line in check_model(folder):
            yield ok("files", line)
    except EngineMismatch as error:
        yield note("files", str(error))
    except InvalidModel as error:
        yield problem("files", str(error))
        return
    for seen in decoders_of(folder):
        yield from _check_decoder(seen)


def known_of(folder: ModelFolder) -> Known:
    """Return the examples of a model's card, fewer if they are large, at seeds 0, 1, ..."""
    count = FEW if folder.card.image_size[0] > LARGE_PX else len(PROMPTS)
    prompts = (folder.card.examples or PROMPTS)[:count]
    return Known(folder.path, folder.decoder, prompts)


def engines_of(folder: ModelFolder) -> list[str]:
    """Name the engines that the folder was exported for; PyTorch's where there are none."""
    there = {
        "tensorrt": bool(plans(folder, *NAMES)),
        "onnx-cuda": folder.has(folder.place(ONNX_FP16)),
        "onnx": folder.has(folder.place(ONNX)),
        "openvino": folder.has(folder.place("openvino-fp32/generator.onnx")),
        "openvino-bf16": folder.has(folder.place("openvino-bf16/generator.onnx")),
        "aoti": bool(plans(folder, "aoti")),
    }
    return [name for name, is_there in there.items() if is_there] or ["pytorch"]


def _check_decoder(folder: ModelFolder) -> Iterator[Finding]:
    known = known_of(folder)
    finding, reference = _reference(folder, known)
    yield finding
    for engine in engines_of(folder):
        try:
            yield from _apart(examine, known, engine, reference)
        except BrokenProcessPool:
            yield problem(engine, "its process died while it drew")
    if reference is not None and folder.decoder == "full":
        yield _compare_with_diffusers(folder, reference)


def _reference(folder: ModelFolder, known: Known) -> tuple[Finding, Reference | None]:
    """Draw with fp32 PyTorch where it is installed and the folder has the weights."""
    if missing := [name for name in TRAINING if find_spec(name) is None]:
        text = f"{missing[0]} is not installed, so engines are compared with themselves"
        return note("pytorch", text, "pip install 'sidestep[train]'"), None
    if not folder.weight_files:
        return note("pytorch", "the folder has graphs and no weights of its own to draw with"), None
    name = "pytorch" if folder.decoder == "full" else f"pytorch-{folder.decoder}"
    try:
        reference = _apart(draw_with_pytorch, known)
    except BrokenProcessPool:
        return problem(name, "its process died while it drew, perhaps for lack of memory"), None
    except SidestepError as error:
        return problem(name, str(error)), None
    except Exception as error:  # a library's own, or torch is there and cannot be imported
        return problem(name, in_one_line(error)), None
    text = f"fp32 draws {known}, all finite, contrast {reference.contrast:.0f} of 255"
    return ok(name, text), reference


def _compare_with_diffusers(folder: ModelFolder, reference: Reference) -> Finding:
    """Draw the same with diffusers' pipeline and the scheduler of the folder."""
    if folder.card.steps > 1:
        text = "not compared: its scheduler of several steps draws noise of its own between them"
        return note("diffusers", text)
    task = Task(folder, reference.prompts, reference.noise)
    with Contender(Entry("diffusers")) as pipeline:
        try:
            drawn = pipeline.start(task).pictures(len(reference.prompts))
        except SidestepError as error:
            return problem("diffusers", str(error))
        coarse = pipeline.precision != "fp32"
    largest = int(np.abs(drawn.astype(np.int16) - reference.pixels).max())
    allowed = ALIKE_COARSE if coarse else ALIKE
    scheduler = _scheduler(folder)
    text = f"its pipeline with {scheduler} is up to {largest}/255 from PyTorch, {allowed} allowed"
    return (ok if largest <= allowed else problem)("diffusers", text)


def _scheduler(folder: ModelFolder) -> str:
    path = folder.path / "scheduler" / "scheduler_config.json"
    return str(json.loads(path.read_text(encoding="utf-8")).get("_class_name", "its scheduler"))


def _apart(function: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
    """Call a function in a process of its own; raises BrokenProcessPool where that dies."""
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=_keep_quiet) as process:
        return process.submit(function, *arguments, **named).result()


def _keep_quiet() -> None:
    """Let libraries tell errors alone between the findings."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
