"""A process that counts a model's operations and measures the machine's peak, then ends.

    python -m bench.costs MODEL DECODER PRECISION DEVICE SECONDS

Apart from the benchmark's own process, which then needs no torch and no memory for it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.machine import gpus
from sidestep.model_folder import ModelFolder


def device_of(contender: str) -> str:
    """Tell where a contender of this name computes; a peer in PyTorch on a GPU if there is one."""
    words = contender.split("-")
    if "cpu" in words or words[0] in ("openvino", "optimum"):  # optimum, as `bench.peers` opens it
        return "cpu"
    return "cuda" if "cuda" in words or words[0] == "tensorrt" or gpus() else "cpu"


def costs(folder: ModelFolder, precision: str, device: str, *, seconds: float) -> dict[str, Any]:
    """Return `flops` per picture and stage and `peak` in TFLOP/s; only `why_not` if they failed.

    They need PyTorch, of the extra [train].
    """
    told_of = [str(folder.path), folder.decoder, precision, device, str(seconds)]
    command = [sys.executable, "-m", "bench.costs", *told_of]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it died"])[-1]
        return {"why_not": f"operations are counted with PyTorch (sidestep[train]): {last}"}
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def main() -> None:
    """Print the costs as one JSON line."""
    from bench.flops import count_flops
    from bench.machine import cores
    from bench.peak import measure_peak

    model, decoder, precision, device, seconds = sys.argv[1:]
    flops = count_flops(ModelFolder.open(Path(model)).with_decoder(decoder))
    peak = measure_peak(precision, device=device, threads=cores(), seconds=float(seconds))
    told = {"flops": flops, "peak": {**peak, "precision": precision, "device": device}}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
