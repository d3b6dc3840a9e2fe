"""The exported graph is the reference, at every batch size, and the certificate can fail."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from diffusers.models.upsampling import Upsample2D
from numpy.typing import NDArray

from distill.folders import Teacher, write_student
from export.folding import FoldedGenerator
from export.onnx import halve_exact_weights
from export.options import ExportOptions
from export.run import export_model
from export.simplify import DoublingConv
from sidestep.engines.onnx_runtime import OnnxRuntimeEngine
from sidestep.engines.torch_module import GeneratorModule, load_module
from sidestep.errors import CertificateFailed, InvalidModel
from sidestep.model_folder import ONNX, ModelCard, ModelFolder
from sidestep.noise import latent_noise
from sidestep.schedule import NoiseSchedule
from sidestep.tokenizer import PromptTokenizer


def inputs(folder: ModelFolder, count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    tokenizer = PromptTokenizer(folder.path / "tokenizer", length=folder.card.tokens)
    prompts = [f"red apple {i}" for i in range(count)]
    return tokenizer(prompts), latent_noise(range(count), folder.card.latent_shape)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_onnx_equals_pytorch(tiny_model: ModelFolder, batch: int) -> None:
    ids, noise = inputs(tiny_model, batch)
    drawn = OnnxRuntimeEngine(tiny_model)(ids, noise)
    with torch.inference_mode():
        wanted = load_module(tiny_model)(torch.from_numpy(ids), torch.from_numpy(noise)).numpy()
    assert drawn.shape == (batch, 16, 16, 3)
    assert wanted.std() > 20
    difference = drawn.astype(int) - wanted.astype(int)
    assert np.abs(difference).max() <= 1
    assert abs(difference.mean()) < 0.05, "a level is rounded to the nearest and not cut off"


def test_the_graph_has_no_resize_of_its_own(built_model: Path) -> None:
    """Doubling is inside the convolution after it (`export/simplify.py`)."""
    kinds = {node.op_type for node in onnx.load(built_model / ONNX).graph.node}
    assert "Conv" in kinds
    assert not kinds & {"Resize", "Upsample"}


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_folding_is_exact(tiny_model: ModelFolder, prediction: str) -> None:
    module = load_module(tiny_model)
    schedule = NoiseSchedule.from_config({"prediction_type": prediction})
    module = GeneratorModule(module.text_encoder, module.unet, module.vae, schedule)
    ids, noise = (torch.from_numpy(part) for part in inputs(tiny_model, 3))
    with torch.inference_mode():
        difference = module(ids, noise).int() - FoldedGenerator(module)(ids, noise).int()
    assert difference.abs().max() <= 1


@pytest.fixture
def odd_model(tiny_teacher: Teacher, tmp_path: Path) -> ModelFolder:
    """A model of 7x7 latents, which its UNet halves to 4x4."""
    unet = copy.deepcopy(tiny_teacher.unet)
    unet.register_to_config(sample_size=7)
    teacher = replace(tiny_teacher, unet=unet)
    card = ModelCard(
        name="odd",
        latent_shape=teacher.latent_shape,
        image_size=teacher.image_size,
        tokens=teacher.tokens,
        schedule=dict(teacher.schedule),
    )
    return write_student(tmp_path / "odd", teacher, unet, card)


def test_latents_of_an_odd_size_are_folded_exactly(odd_model: ModelFolder) -> None:
    module = load_module(odd_model)
    ids, noise = (torch.from_numpy(part) for part in inputs(odd_model, 3))
    with torch.inference_mode():
        difference = module(ids, noise).int() - FoldedGenerator(module)(ids, noise).int()
    assert difference.shape == (3, 14, 14, 3)
    assert difference.abs().max() <= 1


@pytest.mark.slow
def test_latents_of_an_odd_size_are_exported(odd_model: ModelFolder) -> None:
    assert export_model(odd_model).largest_difference <= 1


@pytest.mark.parametrize("bias", [True, False])
def test_doubling_and_convolving_is_one_convolution(*, bias: bool) -> None:
    torch.manual_seed(0)
    upsample = Upsample2D(6, use_conv=True, out_channels=5, bias=bias)
    x = torch.randn(2, 6, 5, 7)
    with torch.inference_mode():
        wanted, ours = upsample(x), DoublingConv(upsample.conv)(x)
    assert ours.shape == (2, 5, 10, 14)
    assert torch.allclose(ours, wanted, atol=1e-5)


def test_the_graph_says_nothing_of_the_machine_it_was_made_on(tiny_model: ModelFolder) -> None:
    assert str(Path(__file__).parents[2]).encode() not in (tiny_model.path / ONNX).read_bytes()


def test_exact_halves_are_stored_and_others_are_kept() -> None:
    exact = np.full(100, 0.5, np.float32)
    inexact = np.full(100, 0.1, np.float32)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["exact", "inexact"], ["sum"])],
        "sum",
        [],
        [onnx.helper.make_tensor_value_info("sum", onnx.TensorProto.FLOAT, [100])],
        [onnx.numpy_helper.from_array(v, n) for v, n in ((exact, "exact"), (inexact, "inexact"))],
    )
    model = onnx.helper.make_model(graph)
    halve_exact_weights(model)
    onnx.checker.check_model(model)
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert types == {"exact.fp16": onnx.TensorProto.FLOAT16, "inexact": onnx.TensorProto.FLOAT}


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("place", "value", "error"),
    [
        ("export.certificate.FLAT", 1000.0, CertificateFailed),
        ("export.fused.save", interrupt, KeyboardInterrupt),
        ("export.run.write_certificate", interrupt, KeyboardInterrupt),
    ],
)
def test_a_failed_or_interrupted_export_leaves_the_folder_as_it_was(
    tiny_model: ModelFolder,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    value: object,
    error: type[BaseException],
) -> None:
    before = {p: p.read_bytes() for p in tiny_model.path.rglob("*") if p.is_file()}
    monkeypatch.setattr(place, value)
    with pytest.raises(error):
        export_model(tiny_model)
    assert {p: p.read_bytes() for p in tiny_model.path.rglob("*") if p.is_file()} == before


def test_shared_weights_draw_the_same_and_are_checked(tiny_model: ModelFolder) -> None:
    ids, noise = inputs(tiny_model, 2)
    alone = OnnxRuntimeEngine(tiny_model)(ids, noise)
    size = (tiny_model.path / ONNX).stat().st_size
    export_model(tiny_model, ExportOptions(share=True))
    folder = ModelFolder.open(tiny_model.path)
    assert (folder.path / ONNX).stat().st_size < 0.8 * size
    assert "unet/diffusion_pytorch_model.safetensors" in folder.card.onnx_shares
    np.testing.assert_array_equal(OnnxRuntimeEngine(folder)(ids, noise), alone)
    weights = folder.path / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(InvalidModel, match=r"diffusion_pytorch_model\.safetensors does not match"):
        OnnxRuntimeEngine(folder)
