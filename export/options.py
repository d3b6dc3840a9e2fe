"""What `sidestep export` can be asked for, checked before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass

from sidestep.errors import InvalidRequest
from sidestep.model_folder import COMPILED

TENSORRT = ("tensorrt", "tensorrt-rtx")
FORMATS = ("onnx", "openvino", "aoti", *TENSORRT)
PRECISIONS = ("fp32", "fp16", "bf16")
LAYOUTS = ("fused", "diffusers")
TARGETS = ("current", "sm75", "sm80", "sm86", "sm89", "sm120", "sm121")
MOST_BUCKETS, LARGEST_BUCKET = 8, 64


@dataclass(frozen=True)
class ExportOptions:
    """One export; raises InvalidRequest naming the option that is out of its bounds.

    to: "onnx", "openvino", "aoti", "tensorrt" or "tensorrt-rtx"
    precision: of the arithmetic, "fp32", "fp16" or, in OpenVINO instead, "bf16"
    layout: "fused", one graph from ids and noise to pixels, or "diffusers", its three networks
    buckets: batch sizes that a plan is compiled for, ascending
    target: the GPU that a plan is compiled for, "sm80" ... or "current"
    share: let the fp32 graph read unchanged weights from the folder's safetensors files
    """

    to: str = "onnx"
    precision: str = "fp32"
    layout: str = "fused"
    buckets: tuple[int, ...] = (1, 2, 4, 8)
    target: str = "current"
    share: bool = False

    def __post_init__(self) -> None:
        """Check every field and their combination."""
        for name, allowed in (
            ("to", FORMATS),
            ("precision", PRECISIONS),
            ("layout", LAYOUTS),
            ("target", TARGETS),
        ):
            if (value := getattr(self, name)) not in allowed:
                raise InvalidRequest(
                    f"{name} is {value!r}; it must be one of {', '.join(allowed)}", field=name
                )
        if (unfit := "fp16" if self.to == "openvino" else "bf16") == self.precision:
            raise InvalidRequest(f"{self.to} does not compute in {unfit}", field="precision")
        ascending = list(self.buckets) == sorted(set(self.buckets))
        if not (1 <= len(self.buckets) <= MOST_BUCKETS and ascending) or not (
            self.buckets[0] >= 1 and self.buckets[-1] <= LARGEST_BUCKET
        ):
            raise InvalidRequest(
                f"buckets are {','.join(map(str, self.buckets))}; they must be 1 to {MOST_BUCKETS} "
                f"ascending batch sizes of 1 to {LARGEST_BUCKET}",
                field="buckets",
            )
        if self.layout == "diffusers" and self.to != "onnx":
            raise InvalidRequest(f"layout diffusers is ONNX, not {self.to}", field="layout")
        if self.share and (self.to, self.precision, self.layout) != ("onnx", "fp32", "fused"):
            raise InvalidRequest(
                "only the fused fp32 ONNX graph can share weights with the folder", field="share"
            )

    @property
    def is_plan(self) -> bool:
        """Tell whether the export is compiled for one device, and bound to it by a manifest."""
        return self.to == "aoti" or self.to in TENSORRT

    @property
    def folder(self) -> str:
        """Where the export goes inside of the model folder."""
        if self.is_plan:
            return f"{COMPILED}/{self.to}-{self.target}-{self.precision}"
        if self.to == "openvino":
            return f"openvino-{self.precision}"
        parts = ["onnx"]
        if self.layout == "diffusers":
            parts.append("diffusers")
        if self.precision != "fp32":
            parts.append(self.precision)
        return "-".join(parts)


def parse_buckets(text: str) -> tuple[int, ...]:
    """Read "1,2,4,8"; raises InvalidRequest for anything else."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InvalidRequest(
            f"buckets are {text!r}; write them like 1,2,4,8", field="buckets"
        ) from None
