"""Find out whether an export fits into memory and on the disk before it starts."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

from safetensors import SafetensorError, safe_open

from export.options import ExportOptions
from sidestep.errors import InvalidModel, NotEnoughRoom
from sidestep.memory import available_memory
from sidestep.model_folder import ModelFolder

# Copies of the fp32 weights that are in memory at once, at most, which is while ONNX Runtime opens
# the graph that is certified: its file, the weights and their packed form. Stable Diffusion 1.5 to
# fp16 took 19.8 GiB.
COPIES = 4.4
BASE = 1_000_000_000  # bytes of Python, PyTorch and ONNX Runtime themselves
PICTURE = 6_000  # bytes for each pixel of a picture while it is decoded, in fp32


def check_room(folder: ModelFolder, options: ExportOptions) -> None:
    """Raise NotEnoughRoom, naming what is needed and what is free.

    Raises InvalidModel for weights that cannot be read.
    """
    parameters = sum(_parameters(folder.path / file) for file in folder.weight_files)
    height, width = folder.card.image_size
    memory = BASE + int(4 * COPIES * parameters) + PICTURE * height * width
    free = available_memory()
    if free is not None and memory > free:
        raise NotEnoughRoom(
            f"exporting {folder.path} takes about {_gib(memory)} of memory and {_gib(free)} are "
            "free; close other programs or use a larger machine"
        )
    size = parameters * (2 if options.precision == "fp16" else 4)
    disk = 1.2 * size * (2 if options.is_plan else 1) + 10_000_000
    if disk > (free_disk := shutil.disk_usage(folder.path).free):
        raise NotEnoughRoom(
            f"exporting {folder.path} writes about {_gib(disk)} and {_gib(free_disk)} are free on "
            "its disk; make room there or move the model"
        )


def _parameters(file: Path) -> int:
    try:
        with safe_open(file, framework="np") as tensors:
            names = tensors.keys()
            return sum(math.prod(tensors.get_slice(name).get_shape()) for name in names)
    except (OSError, SafetensorError) as error:
        raise InvalidModel(f"{file} cannot be read ({error}); copy the model again") from error


def _gib(count: float) -> str:
    return f"{count / 2**30:.1f} GiB"
