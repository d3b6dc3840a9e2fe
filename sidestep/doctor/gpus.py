"""GPUs, their driver, CUDA and TensorRT. Without any of them the CPU draws."""

from __future__ import annotations

from collections.abc import Iterator

from bench.machine import gpus
from sidestep.doctor.findings import Finding, note, ok
from sidestep.doctor.packages import installed
from sidestep.engines.tensorrt_library import NAMES, driver_of, load_library
from sidestep.errors import BackendUnavailable

# Packages whose major version is that of the CUDA which the driver has to speak.
CUDA_PACKAGES = ("cuda-bindings", "nvidia-cuda-runtime", "nvidia-cuda-runtime-cu12")
PACKAGES = {
    "tensorrt": ("tensorrt",),
    "tensorrt-rtx": ("tensorrt-rtx-cu13-bindings", "onnxruntime-ep-nv-tensorrt-rtx-cu13"),
}


def check() -> Iterator[Finding]:
    """Tell what there is of GPUs and of TensorRT."""
    found = gpus()
    for gpu in found:
        memory = f"{gpu['memory_mib']} MiB" if gpu["memory_mib"].isdecimal() else "unknown memory"
        yield ok("gpu", f"{gpu['name']}, {memory}, driver {gpu['driver']}")
    name, cuda = driver_of()
    if name is None:
        text = "no NVIDIA GPU answers"
        if found:
            text = "nvidia-smi lists a GPU, but its CUDA driver does not answer"
        yield note("gpu", f"{text}; engines of the CPU draw")
    else:
        if not found:
            yield ok("gpu", f"{name}; nvidia-smi is not here to tell more")
        yield check_cuda(str(cuda))
    for library in NAMES:
        yield _tensorrt(library)


def check_cuda(cuda: str) -> Finding:
    """Compare the CUDA that the driver speaks, such as "13.0", with that of the packages."""
    major = int(cuda.split(".")[0])
    for package in CUDA_PACKAGES:
        version = installed(package)
        if version and int(version.split(".")[0]) > major:
            wanted = version.split(".")[0]
            text = f"the driver speaks CUDA {cuda}, but {package} is {version}"
            return note("cuda", f"{text}; install a driver of CUDA {wanted} or newer")
    return ok("cuda", f"the driver speaks CUDA {cuda}")


def _tensorrt(library: str) -> Finding:
    found = {name: version for name in PACKAGES[library] if (version := installed(name))}
    if not found:
        return note(library, "is not installed", f"pip install 'sidestep[{library}]'")
    try:
        return ok(library, load_library(library).version)
    except BackendUnavailable as error:
        # The package "tensorrt" may be there as a mere downloader of its libraries.
        reason = " ".join(str(error.__cause__).split())[:200]
        exact = " ".join(f"{name}=={version}" for name, version in found.items())
        if len(found) < len(PACKAGES[library]):
            return note(library, f"is not whole ({reason})", f"pip install 'sidestep[{library}]'")
        return note(library, f"is not whole ({reason})", f"pip install --force-reinstall {exact}")
