"""Several steps in one graph: the reference's pictures, and the weights once."""

from __future__ import annotations

import json
import platform
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from bench.onnx_stages import OnnxStages
from distill.folders import Teacher, write_student
from export.onnx import merge_equal_weights
from export.options import ExportOptions
from export.run import export_model
from export.unrolled import UnrolledGenerator, fold
from sidestep.engines.load import load_engine
from sidestep.engines.onnx_runtime import OnnxRuntimeEngine
from sidestep.engines.torch_module import GeneratorModule, load_module
from sidestep.errors import EngineMismatch, InvalidModel
from sidestep.model_folder import CARD, ONNX, ModelFolder
from sidestep.noise import latent_noise
from sidestep.schedule import NoiseSchedule
from sidestep.tokenizer import PromptTokenizer

STEPS = 2


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / "state"))


@pytest.fixture(scope="module")
def built(
    built_model: Path, tiny_teacher: Teacher, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """An exported model of two steps and the one-step model's weights, only to be read."""
    card = replace(ModelFolder.open(built_model).card, steps=STEPS)
    path = tmp_path_factory.mktemp("few") / "two"
    certificate = export_model(write_student(path, tiny_teacher, tiny_teacher.unet, card))
    assert certificate.largest_difference <= 1
    assert certificate.batch_invariance <= 1
    return path


@pytest.fixture
def two_steps(built: Path, tmp_path: Path) -> ModelFolder:
    return ModelFolder.open(shutil.copytree(built, tmp_path / "two"))


def inputs(folder: ModelFolder, count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    tokenizer = PromptTokenizer(folder.path / "tokenizer", length=folder.card.tokens)
    ids = tokenizer([f"red apple {i}" for i in range(count)])
    return ids, latent_noise(range(count), folder.card.noise_shape)


def reference(folder: ModelFolder, count: int) -> NDArray[np.int64]:
    ids, noise = inputs(folder, count)
    with torch.inference_mode():
        drawn = load_module(folder)(torch.from_numpy(ids), torch.from_numpy(noise))
    return drawn.numpy().astype(np.int64)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_onnx_equals_pytorch(two_steps: ModelFolder, batch: int) -> None:
    drawn = OnnxRuntimeEngine(two_steps)(*inputs(two_steps, batch))
    wanted = reference(two_steps, batch)
    assert drawn.shape == (batch, 16, 16, 3)
    assert wanted.std() > 20
    assert np.abs(drawn - wanted).max() <= 1


def test_a_row_is_the_same_alone_and_in_a_batch(two_steps: ModelFolder) -> None:
    ids, noise = inputs(two_steps, 5)
    engine = OnnxRuntimeEngine(two_steps)
    alone = np.concatenate([engine(ids[i : i + 1], noise[i : i + 1]) for i in range(5)])
    assert np.abs(engine(ids, noise).astype(int) - alone).max() <= 1


@pytest.mark.parametrize("steps", [2, 4])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_folding_is_exact(tiny_model: ModelFolder, prediction: str, steps: int) -> None:
    module = load_module(tiny_model)
    schedule = NoiseSchedule.from_config({"prediction_type": prediction}, steps=steps)
    module = GeneratorModule(module.text_encoder, module.unet, module.vae, schedule)
    ids, _ = inputs(tiny_model, 3)
    noise = torch.from_numpy(latent_noise(range(3), (steps, *tiny_model.card.latent_shape)))
    with torch.inference_mode():
        wanted = module(torch.from_numpy(ids), noise).int()
        folded = fold(module)
        assert isinstance(folded, UnrolledGenerator)
        difference = folded(torch.from_numpy(ids), noise).int() - wanted
    assert difference.abs().max() <= 1


def test_the_weights_are_in_the_file_once(built_model: Path, built: Path) -> None:
    def weights_bytes(path: Path) -> int:
        return sum(len(t.raw_data) for t in onnx.load(path / ONNX).graph.initializer)

    assert weights_bytes(built) <= weights_bytes(built_model)


def test_equal_weights_are_merged_and_others_are_not() -> None:
    values = {"a": [1.0, 2.0], "b": [1.0, 2.0], "c": [2.0, 1.0]}
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Sum", list(values), ["sum"])],
        "sum",
        [],
        [onnx.helper.make_tensor_value_info("sum", onnx.TensorProto.FLOAT, [2])],
        [onnx.numpy_helper.from_array(np.float32(v), name) for name, v in values.items()],
    )
    model = onnx.helper.make_model(graph)
    merge_equal_weights(model)
    onnx.checker.check_model(model)
    assert [tensor.name for tensor in model.graph.initializer] == ["a", "c"]
    assert list(model.graph.node[0].input) == ["a", "a", "c"]


@pytest.mark.slow
def test_an_fp16_graph_is_certified(two_steps: ModelFolder) -> None:
    certificate = export_model(two_steps, ExportOptions(precision="fp16"))
    assert certificate.largest_difference <= certificate.tolerance


def test_three_graphs_are_run_in_steps(two_steps: ModelFolder) -> None:
    certificate = export_model(two_steps, ExportOptions(layout="diffusers"))
    assert certificate.largest_difference <= 1
    index = json.loads((two_steps.path / "onnx-diffusers" / "model_index.json").read_text())
    assert index["scheduler"] == ["diffusers", "LCMScheduler"]


@pytest.mark.slow
def test_openvino_draws_in_steps_and_refuses_others(two_steps: ModelFolder) -> None:
    pytest.importorskip("openvino")
    export_model(two_steps, ExportOptions(to="openvino"))
    folder = ModelFolder.open(two_steps.path)
    drawn = load_engine(folder, "openvino")(*inputs(folder, 2))
    assert np.abs(drawn - reference(folder, 2)).max() <= 1
    card = folder.path / CARD
    card.write_text(json.dumps({**json.loads(card.read_text()), "steps": 4}))
    with pytest.raises(InvalidModel, match=r"takes noise of \(2, 4, 8, 8\), but the card says \(4"):
        load_engine(ModelFolder.open(folder.path), "openvino")


@pytest.mark.slow
def test_a_package_draws_in_steps_and_refuses_others(two_steps: ModelFolder) -> None:
    certificate = export_model(two_steps, ExportOptions(to="aoti"))
    assert certificate.largest_difference <= 1
    card = two_steps.path / CARD
    card.write_text(json.dumps({**json.loads(card.read_text()), "steps": 4}))
    with pytest.raises(EngineMismatch, match=r"noise's shape is .* in the plan's manifest"):
        load_engine(ModelFolder.open(two_steps.path), "aoti")


def test_the_benchmark_cuts_the_graph_in_three(two_steps: ModelFolder) -> None:
    stages = OnnxStages(two_steps)
    ids, noise = inputs(two_steps, 2)
    assert list(stages(ids, noise)) == ["text", "unet", "decoder"]
    np.testing.assert_array_equal(stages.pixels, OnnxRuntimeEngine(two_steps)(ids, noise))


@pytest.mark.slow
@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"),
    reason="TensorRT for RTX comes for Linux on x86-64",
)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_plan_takes_the_noise_of_every_step(two_steps: ModelFolder, precision: str) -> None:
    options = ExportOptions("tensorrt-rtx", precision, target="sm89", buckets=(1, 2))
    proof = export_model(two_steps, options).proof["plan"]
    manifest = json.loads((two_steps.path / options.folder / "manifest.json").read_text())
    assert manifest["tensors"]["noise"] == ["FLOAT", [-1, 2, 4, 8, 8]]
    assert proof["plan_bytes"] > 0
