"""TensorRT for RTX compiles the generator for GPUs that are not here, in the precision asked for.

Only what runs a plan needs a GPU.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tqdm import tqdm

from export.builder import compile_plan
from export.certificate import certify, draw_reference
from export.folding import FoldedGenerator
from export.job import Job
from export.onnx import export_onnx, fused_inputs, save
from export.options import ExportOptions
from export.run import export_model
from export.tensorrt import (
    OPSET,
    PREDICTION,
    SPACE,
    Plan,
    _configure,
    check_target,
    check_tensors,
    prove_precision,
)
from sidestep.engines.manifest import MANIFEST, PLAN, write_manifest
from sidestep.engines.onnx_runtime import OnnxRuntimeEngine
from sidestep.engines.plans import verify
from sidestep.engines.tensor_rt import TensorRtEngine, find_plan
from sidestep.engines.tensorrt_library import has_driver, load_library, make_logger
from sidestep.engines.torch_module import load_module
from sidestep.errors import (
    BackendUnavailable,
    CompileFailed,
    EngineMismatch,
    InvalidModel,
    InvalidRequest,
    NoGpu,
)
from sidestep.model_folder import ONNX, ModelFolder, write_card
from sidestep.tokenizer import PromptTokenizer

needs_library = pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"),
    reason="TensorRT for RTX comes for Linux on x86-64",
)
no_gpu = pytest.mark.skipif(has_driver(), reason="says what is said where there is no GPU")


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / "state"))


@pytest.fixture(scope="module")
def _compiled(built_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = shutil.copytree(built_model, tmp_path_factory.mktemp("compiled") / "tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / "state"))
        options = ExportOptions("tensorrt-rtx", "fp16", target="sm89", buckets=(1, 3))
        certificate = export_model(ModelFolder.open(path), options)
    assert certificate.precision == "fp16"
    assert certificate.proof["plan"]["computing_layers"].keys() == {"HALF", "FLOAT"}
    assert certificate.proof["plan"]["run"] is False
    return path / options.folder


@pytest.fixture
def place(_compiled: Path, tmp_path: Path) -> Path:
    """A model with a compiled plan of one's own; returns the plan's folder."""
    model = shutil.copytree(_compiled.parents[1], tmp_path / "tiny")
    return model / _compiled.relative_to(_compiled.parents[1])


@needs_library
def test_the_manifest_tells_what_was_compiled(place: Path) -> None:
    folder = ModelFolder.open(place.parents[1])
    manifest = verify(folder, place)
    assert (manifest.library, manifest.target, manifest.precision) == (
        "tensorrt-rtx",
        "sm89",
        "fp16",
    )
    assert manifest.library_version == load_library("tensorrt-rtx").version
    assert manifest.buckets == (1, 3)
    assert manifest.tensors == {
        "input_ids": ["INT64", [-1, 12]],
        "noise": ["FLOAT", [-1, 4, 8, 8]],
        "pixels": ["UINT8", [-1, 16, 16, 3]],
    }
    convolutions = manifest.layer_types["CONVOLUTION"]
    assert convolutions.keys() == {"HALF", "FLOAT"}
    assert convolutions["FLOAT"] == 1  # the prediction's
    assert manifest.plan_bytes == (place / PLAN).stat().st_size
    folder.check()
    assert not any(file.startswith("engines/") for file in folder.card.files)
    key = Path(os.environ["XDG_STATE_HOME"]) / "sidestep" / "engine.key"
    assert key.stat().st_mode & 0o777 == 0o600


def no_manifest(place: Path, _: pytest.MonkeyPatch) -> None:
    (place / MANIFEST).unlink()


def damaged_manifest(place: Path, _: pytest.MonkeyPatch) -> None:
    (place / MANIFEST).write_text("{")


def edited_manifest(place: Path, _: pytest.MonkeyPatch) -> None:
    values = json.loads((place / MANIFEST).read_text())
    (place / MANIFEST).write_text(json.dumps({**values, "target": "sm80"}))


def foreign_letters(place: Path, _: pytest.MonkeyPatch) -> None:
    values = json.loads((place / MANIFEST).read_text())
    (place / MANIFEST).write_text(json.dumps({**values, "signature": "é"}))


def another_machine(_: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("SIDESTEP_ENGINE_KEY", "another machine's")


def a_machine_that_never_compiled(place: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("XDG_STATE_HOME", str(place))


def another_plan(place: Path, _: pytest.MonkeyPatch) -> None:
    (place / PLAN).write_bytes((place / PLAN).read_bytes() + b"\0")


def no_plan(place: Path, _: pytest.MonkeyPatch) -> None:
    (place / PLAN).unlink()


def other_weights(place: Path, _: pytest.MonkeyPatch) -> None:
    model = place.parents[1]
    weights = model / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes() + b"\0")
    write_card(model, ModelFolder.open(model).card)


@needs_library
@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (no_manifest, InvalidModel, r"manifest\.json is missing"),
        (damaged_manifest, InvalidModel, r"manifest\.json is damaged"),
        (edited_manifest, EngineMismatch, "the signature is [0-9a-f]{12} in the plan's manifest"),
        (foreign_letters, EngineMismatch, "the signature is é"),
        (another_machine, EngineMismatch, "the signature"),
        (a_machine_that_never_compiled, EngineMismatch, "but no key here"),
        (another_plan, EngineMismatch, "the plan's hash is [0-9a-f]{12}"),
        (no_plan, InvalidModel, r"generator\.plan is missing"),
        (other_weights, EngineMismatch, "weights is [0-9a-f]{64} .* but [0-9a-f]{64} here"),
    ],
)
def test_a_plan_that_does_not_belong_here_is_refused(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path, pytest.MonkeyPatch], None],
    error: type[Exception],
    message: str,
) -> None:
    damage(place, monkeypatch)
    with pytest.raises(error, match=message) as raised:
        TensorRtEngine(ModelFolder.open(place.parents[1]), plan=place)
    line = str(raised.value)
    assert "--to tensorrt-rtx --target sm89 --precision fp16" in line
    assert "\n" not in line


@needs_library
def test_an_empty_key_is_made_anew(
    place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As a full disk leaves it: a signature with it would be anybody's."""
    folder = ModelFolder.open(place.parents[1])
    manifest = verify(folder, place)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    key = tmp_path / "sidestep" / "engine.key"
    key.parent.mkdir()
    key.write_bytes(b"")
    write_manifest(place, manifest)
    assert len(key.read_bytes()) == 64
    assert key.stat().st_mode & 0o777 == 0o600
    verify(folder, place)


@needs_library
def test_of_several_plans_the_one_that_belongs_here_is_taken(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidestep.engines.tensor_rt.has_driver", lambda: True)
    monkeypatch.setattr("sidestep.engines.tensor_rt.targets_here", lambda: ("current", "sm89"))
    folder = ModelFolder.open(place.parents[1])
    stale = shutil.copytree(place, place.with_name("tensorrt-rtx-current-fp16"))
    another_plan(stale, monkeypatch)
    assert find_plan(folder) == place
    (place / PLAN).unlink()
    with pytest.raises(EngineMismatch, match="the plan's hash is"):
        find_plan(folder)
    shutil.rmtree(stale)
    assert find_plan(folder) == place  # which then says itself what is wrong


@needs_library
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_fp32_is_not_tf32(precision: str) -> None:
    library = load_library("tensorrt-rtx")
    builder = library.trt.Builder(make_logger(library)[0])
    options = ExportOptions(to="tensorrt-rtx", target="sm89", precision=precision)
    config = _configure(library.trt, builder, ModelFolder.open().card, options)
    assert config.get_flag(library.trt.BuilderFlag.TF32) == (precision == "fp16")


@needs_library
def test_another_release_of_the_library_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = replace(load_library("tensorrt-rtx"), version="1.8.0")
    monkeypatch.setattr("sidestep.engines.tensor_rt.load_library", lambda _: here)
    with pytest.raises(EngineMismatch, match=r"is 1\.7\.\S+ in .* but 1\.8\.0 here; run: sidestep"):
        TensorRtEngine(ModelFolder.open(place.parents[1]), plan=place)


@needs_library
@no_gpu
def test_a_whole_plan_needs_a_gpu(place: Path) -> None:
    folder = ModelFolder.open(place.parents[1])
    for plan in (place, None):
        with pytest.raises(NoGpu, match="--engine onnx"):
            TensorRtEngine(folder, plan=plan)


@pytest.mark.skipif(not has_driver(), reason="needs a GPU with a CUDA driver")
def test_a_plan_draws_the_reference(tiny_model: ModelFolder) -> None:
    options = ExportOptions("tensorrt-rtx", "fp32", buckets=(1, 2, 5, 8))
    certificate = export_model(tiny_model, options)
    assert certificate.proof["plan"]["run"] is True
    assert certificate.engine == "tensorrt-rtx-fp32"


@needs_library
@no_gpu
def test_the_current_gpu_is_not_guessed() -> None:
    for options in (ExportOptions("tensorrt-rtx"), ExportOptions("tensorrt-rtx", "fp16")):
        with pytest.raises(InvalidRequest, match="target current needs a GPU"):
            check_target(options)


def test_tensorrt_compiles_only_for_the_gpu_that_is_here() -> None:
    with pytest.raises(InvalidRequest, match="--to tensorrt-rtx"):
        check_target(ExportOptions("tensorrt", target="sm89"))


def test_a_missing_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx_bindings", None)
    for name in ("tensorrt", "tensorrt-rtx"):
        with pytest.raises(BackendUnavailable, match=rf"pip install 'sidestep\[{name}\]'"):
            load_library(name)


@needs_library
def test_a_graph_that_tensorrt_cannot_read_or_build_is_one_line(
    tiny_model: ModelFolder, tmp_path: Path
) -> None:
    options = ExportOptions("tensorrt-rtx", target="sm80")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no graph")
    with pytest.raises(CompileFailed, match=r"cannot read broken\.onnx"):
        compile_plan(broken, tiny_model.card, options)
    other = replace(tiny_model.card, tokens=13)
    graph = tiny_model.path / ONNX
    with pytest.raises(CompileFailed, match=r"takes and gives .*12.* it should be .*13") as raised:
        compile_plan(graph, other, options)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended with SIGSEGV; export"),
        ("raise MemoryError('too large')", r"failed \(MemoryError: too large\)"),
    ],
)
def test_a_crash_of_the_builder_is_one_line_and_leaves_the_model_as_it_was(
    tiny_model: ModelFolder, monkeypatch: pytest.MonkeyPatch, script: str, message: str
) -> None:
    before = {p: p.read_bytes() for p in tiny_model.path.rglob("*") if p.is_file()}
    monkeypatch.setattr("export.builder.COMMAND", (sys.executable, "-c", script))
    monkeypatch.setattr("export.run.check_target", lambda _: None)
    monkeypatch.setattr("export.plan.check_target", lambda _: None)
    with pytest.raises(CompileFailed, match=message) as raised:
        export_model(tiny_model, ExportOptions("tensorrt-rtx", target="sm80", buckets=(1,)))
    assert "\n" not in str(raised.value)
    assert {p: p.read_bytes() for p in tiny_model.path.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_compilation_can_be_interrupted(
    tiny_model: ModelFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
) -> None:
    """The builder, which would not stop of itself, is ended with the process that waits for it."""
    graph = shutil.copy(tiny_model.path / ONNX, tmp_path)
    script = (
        f"import os, sys, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()));"
        f"os.kill(os.getppid(), {number.value}); time.sleep(600)"
    )
    monkeypatch.setattr("export.builder.COMMAND", (sys.executable, "-c", script))
    before = signal.signal(number, lambda *_: sys.exit(143))
    try:
        with pytest.raises(SystemExit):
            compile_plan(Path(graph), tiny_model.card, ExportOptions("tensorrt-rtx", target="sm80"))
    finally:
        signal.signal(number, before)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_what_a_network_takes_and_gives_is_checked(tiny_model: ModelFolder) -> None:
    right = {
        "input_ids": ["INT64", [-1, 12]],
        "noise": ["FLOAT", [-1, 4, 8, 8]],
        "pixels": ["UINT8", [-1, 16, 16, 3]],
    }
    check_tensors(right, tiny_model.card)
    for name, wrong in (("noise", ["HALF", [-1, 4, 8, 8]]), ("pixels", ["UINT8", [8, 16, 16, 3]])):
        with pytest.raises(CompileFailed):
            check_tensors({**right, name: wrong}, tiny_model.card)


@pytest.mark.parametrize(
    ("precision", "types", "plan_bytes", "kept", "passes"),
    [
        ("fp16", {"HALF": 9}, 1_100, False, True),
        ("fp16", {"HALF": 9}, 2_000 + 2 * SPACE, False, False),  # the size of an fp32 plan
        ("fp16", {"FLOAT": 9}, 1_100, False, False),
        ("fp16", {"HALF": 7, "FLOAT": 2}, 1_100, False, True),  # norm and convolution of the end
        ("fp16", {"HALF": 6, "FLOAT": 3}, 1_100, False, False),
        ("fp16", {"HALF": 6, "FLOAT": 3}, 1_100, True, True),
        ("fp16", {"FLOAT": 9}, 1_100, True, False),
        ("fp32", {"FLOAT": 9}, 1_100, False, True),
        ("fp32", {"FLOAT": 9}, 600, False, False),  # the size of an fp16 plan
        ("fp32", {"FLOAT": 8, "HALF": 1}, 1_100, False, False),
    ],
)
def test_precision_is_proven_by_types_and_size(
    precision: str, types: dict[str, int], plan_bytes: int, kept: bool, passes: bool
) -> None:
    options = ExportOptions("tensorrt-rtx", precision, target="sm80", buckets=(1, 2))
    plan = Plan(Path("plan"), plan_bytes, {}, {"CONVOLUTION": types})
    if passes:
        assert prove_precision(plan, options, 1_000, kept=kept)["computing_layers"] == types
    else:
        with pytest.raises(CompileFailed):
            prove_precision(plan, options, 1_000, kept=kept)


@pytest.mark.slow
@needs_library
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("kind", ["emoji", "sd15", "sd21"])
def test_every_architecture_compiles(
    kind: str, precision: str, tmp_path: Path, shrunken: Callable[[str], Path]
) -> None:
    """In ONNX Runtime the graph draws the reference; for both GPUs it compiles as it is typed."""
    folder = ModelFolder.open(shrunken(kind))
    module = load_module(folder)
    tokenizer = PromptTokenizer(folder.path / "tokenizer", length=folder.card.tokens)
    reference = draw_reference(module, tokenizer, folder.card.latent_shape)
    options = ExportOptions("tensorrt-rtx", precision, target="sm80", buckets=(1,))
    with tqdm(disable=True) as stages:
        job = Job(folder, options, reference, tmp_path, stages)
        folded = job.apply_precision(FoldedGenerator(module))
    model = export_onnx(folded, fused_inputs(folder.card), ["pixels"], opset=OPSET)
    weights_bytes = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    graph = tmp_path / "generator.onnx"
    save(model, graph)
    certify(reference, OnnxRuntimeEngine(folder, graph=graph), precision=precision)
    for target in ("sm80", "sm89"):
        plan = compile_plan(graph, folder.card, replace(options, target=target))
        proof = prove_precision(plan, options, weights_bytes)
        layers = proof["computing_layers"]
        assert layers.keys() == ({"FLOAT"} if precision == "fp32" else {"HALF", "FLOAT"})
        assert precision == "fp32" or layers["FLOAT"] == PREDICTION
