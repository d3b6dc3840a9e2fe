"""A package that AOTInductor compiled: PyTorch's own ahead-of-time engine, on CPU or GPU."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from sidestep.engines.manifest import PACKAGE, check_manifest
from sidestep.engines.plans import mend_of, plans, verify
from sidestep.engines.pytorch import TorchEngine
from sidestep.errors import BackendUnavailable, InvalidModel
from sidestep.model_folder import ModelFolder


class AotInductorEngine(TorchEngine):
    """`engines/aoti-current-*`: compiled on this machine, for the device that it has."""

    def __init__(self, folder: ModelFolder, *, plan: Path | None = None) -> None:
        """Open `plan`, a folder in `engines/`, or the first that there is, fp16 before fp32.

        Raises BackendUnavailable without torch, InvalidModel where nothing was compiled, and
        EngineMismatch for a package of another machine, PyTorch or model.
        """
        try:
            import torch
        except ImportError as error:
            raise BackendUnavailable("torch", "train") from error
        places = [plan] if plan else plans(folder, "aoti")
        if not places:
            raise InvalidModel(
                f"{folder.path} has no AOTInductor package; run: sidestep export "
                f"{folder.arguments} --to aoti"
            )
        place = places[0]
        manifest = verify(folder, place)
        check_manifest(manifest, device_here(torch), mend_of(folder, place))
        device = "cuda" if torch.cuda.is_available() else "cpu"
        run = torch._inductor.aoti_load_package(str(place / PACKAGE))
        super().__init__(run, device, f"aoti-{device}-{manifest.precision}", folder)


def device_here(torch: Any) -> dict[str, str | None]:
    """Return what binds a package to this machine: PyTorch's release, the device, its driver."""
    if torch.cuda.is_available():
        device, driver = torch.cuda.get_device_name(0), torch.version.cuda
    else:
        level = torch.backends.cpu.get_cpu_capability()
        device, driver = f"{platform.machine()} {level}", None
    return {"library_version": str(torch.__version__), "gpu": device, "driver": driver}
