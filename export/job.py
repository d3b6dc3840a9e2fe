"""What every kind of export is given: a model, its reference pictures, a place to write to."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from export.certificate import Reference, certify
from export.options import TENSORRT, ExportOptions
from export.precision import LIMIT, Rounded, activation_maxima, modules_to_keep, to_half
from sidestep.engines.contract import GeneratorSpec
from sidestep.model_folder import ModelFolder


@dataclass
class Job:
    """One export under way.

    out: the new folder, still under a temporary name
    proof: what the certificate will carry beside the pictures' differences
    """

    folder: ModelFolder
    options: ExportOptions
    reference: Reference
    out: Path
    stages: tqdm[Any]
    proof: dict[str, Any] = field(default_factory=dict)

    def stage(self, name: str) -> None:
        """Say what is done now."""
        self.stages.set_description(name)
        self.stages.update()

    def apply_precision(self, module: nn.Module) -> nn.Module:
        """Cast a generator in place to the precision that is wanted, and prove that it holds.

        Raises CertificateFailed if fp16 cannot draw the reference's pictures.
        """
        if self.options.precision != "fp16":  # bf16 is the engine's own doing
            return module.eval()
        self.stage("find what overflows")
        ids = torch.from_numpy(self.reference.ids)
        seen = activation_maxima(module, ids, torch.from_numpy(self.reference.noise))
        kept = modules_to_keep(seen)
        self.stage("round to fp16")
        spec = GeneratorSpec.of(self.folder, "fp16", buckets=(1,))  # rows are rounded one by one
        rounded = certify(self.reference, Rounded(module, kept, spec), precision="fp16")
        name, value = seen.largest
        self.proof["fp16"] = {
            "largest_activation": round(value, 1),
            "largest_activation_in": name,
            "limit": LIMIT,
            "kept_in_fp32": kept,
            "rounded_largest_difference": rounded.largest_difference,
            "rounded_psnr_db": rounded.psnr_db,
        }
        to_half(module, kept)
        return module.eval()


def stage_count(options: ExportOptions) -> int:
    """Count the stages of an export, for its progress bar."""
    return 4 + 2 * (options.precision == "fp16") + (options.to in TENSORRT)
