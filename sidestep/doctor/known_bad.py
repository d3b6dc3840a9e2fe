"""Packages that are known not to work together, and why."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from sidestep.doctor.findings import Finding, note, ok
from sidestep.doctor.packages import installed


@dataclass(frozen=True)
class Pair:
    """Two packages that do not work together, in these versions.

    of_first, of_second: a range of versions, all where empty; "+cpu" is a build of that name and
    "+" one without a name
    """

    first: str
    of_first: str
    second: str
    of_second: str
    why: str
    mend: str = ""


KNOWN_BAD = (
    Pair(
        *("tensorrt-rtx-cu13-bindings", "!=1.7.1.*"),
        *("onnxruntime-ep-nv-tensorrt-rtx-cu13", ">=0.5,<0.6"),
        why="the second carries the libraries of release 1.7.1, and bindings take no other",
        mend="pip install 'sidestep[tensorrt-rtx]'",
    ),
    Pair(
        *("torch-tensorrt", "==2.14.*"),
        *("tensorrt", ">=11.2"),
        why="the first is built for TensorRT below 11.2",
        mend="pip uninstall torch-tensorrt",
    ),
    Pair(
        *("onnxruntime-gpu", "<=1.31.1"),
        *("tensorrt", ">=11"),
        why="ONNX Runtime's TensorRT provider wants libnvinfer.so.10 and does not load; sidestep "
        "takes its CUDA provider, and TensorRT without it",
    ),
    Pair(
        *("nvidia-modelopt", "==0.47.*"),
        *("cuda-bindings", ">=13"),
        why="the first wants CuPy of CUDA 12",
        mend="pip uninstall nvidia-modelopt",
    ),
    Pair(
        *("torch", "+cpu"),
        *("torchvision", "+"),
        why="a CPU build of torch breaks another build's torchvision, which open_clip needs",
        mend="pip install --force-reinstall --no-deps torch",
    ),
    Pair(
        *("optimum-onnx", ""),
        *("transformers", ">=5"),
        why="optimum needs transformers 4, training 5, and they name CLIP's weights differently; "
        "`sidestep bench engine --python optimum=PYTHON` takes it from an environment of its own",
        mend="pip uninstall optimum-onnx",
    ),
    Pair(
        *("uvloop", ""),
        *("uvicorn", ""),
        why="uvicorn takes uvloop, whose loop could not always be closed with connections open",
        mend="pip uninstall uvloop",
    ),
)


def check() -> Iterator[Finding]:
    """Look for known-bad pairs among the installed packages."""
    found = known_bad(installed)
    yield from found
    if lost := _lost_provider():
        yield lost
    elif not found:
        yield ok("known-bad pairs", f"none of {len(KNOWN_BAD)}")


def known_bad(version_of: Callable[[str], str | None]) -> list[Finding]:
    """List the pairs that there are, given each package's version or None."""
    found = []
    for pair in KNOWN_BAD:
        first, second = version_of(pair.first), version_of(pair.second)
        if first and second and _fits(first, pair.of_first) and _fits(second, pair.of_second):
            text = f"{pair.first} {first} with {pair.second} {second}: {pair.why}"
            found.append(note("known-bad pair", text, pair.mend))
    return found


def _fits(version: str, wanted: str) -> bool:
    try:
        parsed = Version(version)
    except InvalidVersion:
        return False
    if wanted.startswith("+"):
        return (parsed.local or "") == wanted[1:]
    return SpecifierSet(wanted).contains(parsed, prereleases=True)


def _lost_provider() -> Finding | None:
    """Find out whether onnxruntime was installed over onnxruntime-gpu.

    Both write the one folder `onnxruntime`, so the later of the two is what there is.
    """
    gpu, spec = installed("onnxruntime-gpu"), find_spec("onnxruntime")
    if gpu is None or not installed("onnxruntime") or spec is None or sys.platform != "linux":
        return None
    folders = [Path(place) for place in spec.submodule_search_locations or ()]
    if any((f / "capi" / "libonnxruntime_providers_cuda.so").is_file() for f in folders):
        return None
    text = f"onnxruntime was installed over onnxruntime-gpu {gpu}, which lost its CUDA provider"
    return note("known-bad pair", text, "pip install --force-reinstall --no-deps onnxruntime-gpu")
