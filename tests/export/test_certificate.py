"""A certificate says how far an engine is from PyTorch, and fails beyond the tolerance."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from export.certificate import FLAT, TOLERANCES, Reference, certify, draw_reference
from sidestep.engines.contract import Engine, GeneratorSpec
from sidestep.engines.onnx_runtime import OnnxRuntimeEngine
from sidestep.engines.torch_module import load_module
from sidestep.errors import CertificateFailed
from sidestep.model_folder import ONNX_CERTIFICATE, ModelFolder
from sidestep.tokenizer import PromptTokenizer

Pixels = NDArray[np.uint8]


class Altered:
    """An engine whose pictures are another's, altered."""

    def __init__(self, engine: Engine, alter: Callable[[Pixels], Pixels]) -> None:
        self.spec: GeneratorSpec = engine.spec
        self._engine, self._alter = engine, alter

    def __call__(self, input_ids: NDArray[np.int64], noise: NDArray[np.float32]) -> Pixels:
        return self._alter(self._engine(input_ids, noise))


@pytest.fixture
def engine(tiny_model: ModelFolder) -> OnnxRuntimeEngine:
    return OnnxRuntimeEngine(tiny_model)


@pytest.fixture
def reference(tiny_model: ModelFolder, tokenizer: PromptTokenizer) -> Reference:
    return draw_reference(load_module(tiny_model), tokenizer, tiny_model.card.latent_shape)


def shifted(levels: int, *, every: int) -> Callable[[Pixels], Pixels]:
    """Move one value in `every` by `levels`, towards the middle of the range."""

    def alter(pixels: Pixels) -> Pixels:
        moved = pixels.reshape(-1).astype(int)
        some = moved[::every]
        moved[::every] = np.where(some < 128, some + levels, some - levels)
        return moved.astype(np.uint8).reshape(pixels.shape)

    return alter


def test_it_is_drawn_in_every_batch_that_is_asked_for(
    reference: Reference, engine: OnnxRuntimeEngine
) -> None:
    drawn: list[int] = []

    def note(pixels: Pixels) -> Pixels:
        drawn.append(len(pixels))
        return pixels

    certificate = certify(reference, Altered(engine, note), batches=(1, 4, 8))
    assert certificate.batches == (1, 2, 4, 5, 8)
    assert set(drawn) == {1, 2, 4, 5, 8}


def test_an_honest_engine_passes(reference: Reference, engine: OnnxRuntimeEngine) -> None:
    assert reference.contrast > FLAT
    certificate = certify(reference, engine)
    assert certificate.largest_difference <= certificate.tolerance == 1
    assert certificate.batch_invariance <= 1
    assert certificate.psnr_db is None or certificate.psnr_db >= certificate.least_psnr_db


@pytest.mark.parametrize(
    ("precision", "levels", "every", "message"),
    [
        ("fp32", 3, 10**9, "by up to [234] levels of 255; fp32 allows 1"),
        ("fp16", 10, 10**9, "by up to (9|10|11) levels of 255; fp16 allows 8"),
        ("fp16", 6, 1, r"by 3\d\.\d dB \(PSNR\); fp16 allows 40 dB or more"),
    ],
)
def test_a_planted_perturbation_fails(
    reference: Reference,
    engine: OnnxRuntimeEngine,
    precision: str,
    levels: int,
    every: int,
    message: str,
) -> None:
    """One value of one picture is enough for the largest, a small shift of all for PSNR."""
    with pytest.raises(CertificateFailed, match=message):
        certify(reference, Altered(engine, shifted(levels, every=every)), precision=precision)


def test_a_picture_that_depends_on_its_batch_fails(
    reference: Reference, engine: OnnxRuntimeEngine
) -> None:
    """Each is within the tolerance, six levels above and six below, but they are twelve apart."""
    pixels = np.full_like(reference.pixels, 128)
    pixels[:, ::2] = 60
    grey = Reference(reference.prompts, reference.ids, reference.noise, pixels)

    def drift(drawn: Pixels) -> Pixels:
        up = len(drawn) == 1
        same = pixels[: len(drawn)].copy()
        same[:, 0, 0] += np.uint8(6) if up else np.uint8(250)
        return same

    with pytest.raises(CertificateFailed, match="in a batch up to 12 levels"):
        certify(grey, Altered(engine, drift), precision="fp16")


def test_rows_that_change_places_fail(reference: Reference, engine: OnnxRuntimeEngine) -> None:
    with pytest.raises(CertificateFailed, match="differs from PyTorch"):
        certify(reference, Altered(engine, lambda pixels: pixels[::-1]))


def test_flat_pictures_prove_nothing(tiny_model: ModelFolder, tokenizer: PromptTokenizer) -> None:
    """Each channel is flat here, although the channels differ by much."""
    module = load_module(tiny_model)
    with torch.no_grad():
        module.vae.decoder.conv_out.weight.mul_(0.001)
        module.vae.decoder.conv_out.bias.copy_(torch.tensor([-0.9, 0.0, 0.9]))
    with pytest.raises(CertificateFailed, match="flat"):
        draw_reference(module, tokenizer, tiny_model.card.latent_shape)


def test_the_certificate_is_kept(tiny_model: ModelFolder) -> None:
    certificate = json.loads((tiny_model.path / ONNX_CERTIFICATE).read_text())
    assert certificate["weights"] == tiny_model.card.weights
    assert certificate["batches"] == [1, 2, 5, 8]
    assert certificate["largest_difference"] <= certificate["tolerance"] == 1
    assert certificate["contrast"] > FLAT
    assert set(TOLERANCES) == {"fp32", "fp16", "bf16"}
    tiny_model.check()
