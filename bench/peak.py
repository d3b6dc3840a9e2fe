"""The most that this machine computes: matrix products and convolutions, nothing else.

What a data sheet promises is not what a machine in this state gives: clocks, power caps and
neighbours differ. So the yardstick is measured in the run that it is the yardstick of.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from distill.precision import exact_fp32

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def measure_peak(precision: str, *, device: str, threads: int, seconds: float) -> dict[str, float]:
    """Return TFLOP/s of the best matrix product and of the best 3x3 convolution.

    threads: of the CPU; seconds: for each of the products and convolutions that are tried
    """
    torch.set_num_threads(threads)
    with torch.inference_mode(), exact_fp32():
        matmul = max(_rate(*_matmul(side, precision, device), seconds) for side in _SIDES[device])
        convolution = max(
            _rate(*_convolution(shape, precision, device), seconds) for shape in _SHAPES[device]
        )
    return {"matmul_tflops": matmul, "convolution_tflops": convolution}


_SIDES = {"cpu": (512, 1024, 2048), "cuda": (4096, 8192)}
_SHAPES = {"cpu": ((8, 64, 64), (2, 256, 64)), "cuda": ((8, 320, 128), (8, 512, 128))}


def _matmul(side: int, precision: str, device: str) -> tuple[Callable[[], Tensor], int]:
    a, b = (torch.randn((side, side), device=device).to(DTYPES[precision]) for _ in range(2))
    return lambda: a @ b, 2 * side**3


def _convolution(
    shape: tuple[int, int, int], precision: str, device: str
) -> tuple[Callable[[], Tensor], int]:
    batch, channels, side = shape
    layout = torch.channels_last if device == "cuda" else torch.contiguous_format
    layer = torch.nn.Conv2d(channels, channels, 3, padding=1, device=device)
    layer = layer.to(DTYPES[precision], memory_format=layout)  # type: ignore[call-overload]
    x = torch.randn((batch, channels, side, side), device=device).to(DTYPES[precision])
    x = x.contiguous(memory_format=layout)
    return lambda: layer(x), 2 * 9 * batch * channels**2 * side**2


def _rate(call: Callable[[], Tensor], flops: int, seconds: float) -> float:
    """Return TFLOP/s of the fastest call, or of ten in a row on a GPU."""
    call()
    fastest, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        fastest = min(fastest, _call_s(call))
    return float(f"{flops / fastest / 1e12:.4g}")


def _call_s(call: Callable[[], Tensor]) -> float:
    if not call().is_cuda:
        began = time.perf_counter()
        call()
        return time.perf_counter() - began
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(10):
        call()
    torch.cuda.synchronize()
    return (time.perf_counter() - began) / 10
