"""A small decoder learns what the full one draws, and becomes part of its model."""

from __future__ import annotations

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny

from bench.certificates import faults_of
from bench.contender import Entry
from bench.engine import Plan
from bench.engine import measure as bench_engine
from bench.flops import count_flops
from distill.architectures import ARCHITECTURES
from distill.decoder import Latents, measure, new_decoder
from distill.decoder_options import DecoderOptions
from distill.small_decoder import distil_decoder, store_decoder
from export.folding import FoldedGenerator
from export.options import ExportOptions
from export.run import export_model
from serve.caching import entity_tag
from sidestep.engines.load import load_engine
from sidestep.engines.torch_module import load_module
from sidestep.errors import InvalidModel, InvalidRequest, InvalidTraining, Stopped
from sidestep.generator import Generator
from sidestep.images import read_recipe
from sidestep.model_folder import ONNX_CERTIFICATE, SMALL, ModelFolder, write_card
from sidestep.noise import latent_noise
from sidestep.requests import GenerateRequest
from sidestep.tokenizer import PromptTokenizer
from sidestep.verification import verify, with_its_decoder

OPTIONS = DecoderOptions(
    channels=8, blocks=1, steps=40, batch=8, learning_rate=0.01, warmup_steps=5, held_out=4
)


@pytest.fixture(scope="module")
def distilled(built_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a small decoder, to be copied."""
    path = shutil.copytree(built_model, tmp_path_factory.mktemp("small") / "tiny")
    folder = ModelFolder.open(path)
    small = distil_decoder(folder, [], path.with_name("run"), OPTIONS)
    export_model(small)
    return path


@pytest.fixture
def small(distilled: Path, tmp_path: Path) -> ModelFolder:
    """The same, of one's own, seen with its small decoder."""
    return ModelFolder.open(shutil.copytree(distilled, tmp_path / "tiny")).with_decoder("small")


def test_it_comes_nearer_to_the_full_decoder_on_latents_it_never_saw(distilled: Path) -> None:
    folder = ModelFolder.open(distilled)
    module = load_module(folder)
    ids = torch.from_numpy(PromptTokenizer(distilled / "tokenizer", length=12)(["red apple"]))
    held_out = Latents(module, ids, torch.device("cpu")).held_out(4, folder.card.latent_shape)
    untrained = measure(new_decoder(OPTIONS, module.vae).decoder, held_out)
    trained = load_module(folder.with_decoder("small")).vae.decoder
    assert measure(trained, held_out) > untrained + 3
    assert folder.card.small_decoder["psnr_db"] > untrained + 3
    logged = (distilled.parent / "run/log.jsonl").read_text().splitlines()
    assert "held_out_psnr" in json.loads(logged[-1])
    assert (distilled.parent / "run/samples-000040.png").is_file()


def test_what_was_written_during_its_training_stays(tiny_model: ModelFolder) -> None:
    tiny = new_decoder(OPTIONS, load_module(tiny_model).vae)
    measured = write_card(tiny_model.path, replace(tiny_model.card, quality={"clip_score": 0.8}))
    made = store_decoder(tiny_model, tiny, {"weights": tiny_model.card.weights})
    assert made.card.quality == measured.card.quality


def test_the_benchmark_times_it(small: ModelFolder) -> None:
    plan = Plan(batches=(1,), calls=6, seconds=60, stage_calls=1, peak_s=0.02)
    report = bench_engine(small, [Entry("engine:onnx"), Entry("diffusers")], plan)
    (row,) = report.rows
    assert row["name"] == "onnx-cpu-small"
    assert {"text", "unet", "decoder"} <= set(row["stages_ms"])
    assert report.valid, report.invalid_because
    assert report.figures["absent"] == [
        {"name": "diffusers", "why": "it draws with the whole decoder"}
    ]
    whole = count_flops(small.with_decoder("full"))
    assert report.figures["flops"]["unet"] == whole["unet"]
    assert report.figures["flops"]["decoder"] != whole["decoder"]
    (small.path / small.place(ONNX_CERTIFICATE)).unlink()
    assert faults_of(small, "onnx-cpu-small") == [
        "decoder_small/onnx/certificate.json: it is missing; run sidestep export"
    ]


def test_the_folder_has_two_models_of_different_weights(small: ModelFolder) -> None:
    full = ModelFolder.open(small.path)
    full.check()
    assert small.card.weights != full.card.weights
    assert full.with_decoder("full") is full
    assert small.with_decoder("full").card == full.card
    certificate = json.loads((small.path / SMALL / ONNX_CERTIFICATE).read_text())
    assert certificate["weights"] == small.card.weights
    assert certificate["engine"] == "onnx-cpu-small"
    assert small.tolerance() == 1
    request = GenerateRequest.parse({"prompt": "red apple", "seed": 1})
    drawers = [Generator.load(f.path, engine="onnx", decoder=f.decoder) for f in (small, full)]
    tags = {entity_tag(request, request.encoding, drawer) for drawer in drawers}
    assert len(tags) == 2


def test_its_graph_draws_what_its_pytorch_draws(
    small: ModelFolder, tokenizer: PromptTokenizer
) -> None:
    ids, noise = tokenizer(["red apple", "cat face"]), latent_noise([5, 6], small.card.latent_shape)
    wanted = load_engine(small, "pytorch")(ids, noise)
    full = load_engine(ModelFolder.open(small.path), "onnx")(ids, noise)
    drawn = load_engine(small, "onnx")(ids, noise)
    assert wanted.std() > 20
    assert np.abs(drawn.astype(int) - wanted).max() <= 1
    assert np.abs(drawn.astype(int) - full).max() > 8  # it is another decoder


def test_folding_it_is_exact(small: ModelFolder, tokenizer: PromptTokenizer) -> None:
    ids = torch.from_numpy(tokenizer(["red apple", "cat face"]))
    noise = torch.from_numpy(latent_noise([5, 6], small.card.latent_shape))
    with torch.inference_mode():
        wanted = load_module(small)(ids, noise).int()
        difference = wanted - FoldedGenerator(load_module(small))(ids, noise).int()
    assert difference.abs().max() <= 1


def test_a_picture_names_it_and_is_verified_with_it(small: ModelFolder) -> None:
    picture = Generator.load(small.path, decoder="small")("red apple", seed=3)
    recipe = read_recipe(picture.data)
    assert recipe is not None
    assert (recipe.engine, recipe.weights) == ("onnx-cpu-small", small.card.weights)
    folder = with_its_decoder(picture.data, ModelFolder.open(small.path))
    assert folder.decoder == "small"
    again = Generator.load(folder.path, decoder=folder.decoder)
    assert verify(picture.data, folder, again).largest_difference == 0
    other = Generator.load(small.path)("red apple", seed=3)
    assert with_its_decoder(other.data, ModelFolder.open(small.path)).decoder == "full"


def test_diffusers_reads_it(small: ModelFolder) -> None:
    tiny = AutoencoderTiny.from_pretrained(small.path / SMALL, low_cpu_mem_usage=False)
    latents = torch.from_numpy(latent_noise([0, 1], small.card.latent_shape))
    with torch.inference_mode():
        drawn = tiny.float().decode(latents).sample
        torch.testing.assert_close(drawn, load_module(small).decode(latents))
    assert drawn.shape == (2, 3, 16, 16)


@pytest.mark.slow
def test_other_exports_lie_beside_its_graph(small: ModelFolder) -> None:
    certificate = export_model(small, ExportOptions(precision="fp16"))
    assert certificate.proof["fp16"]["rounded_psnr_db"] > 40
    export_model(small, ExportOptions(share=True))
    folder = ModelFolder.open(small.path)
    assert folder.has(f"{SMALL}/onnx-fp16/generator.onnx")
    assert not folder.has("onnx-fp16/generator.onnx")
    assert folder.card.onnx_shares == ()
    shared = folder.with_decoder("small")
    assert f"{SMALL}/diffusion_pytorch_model.safetensors" in shared.card.onnx_shares
    assert load_engine(shared, "onnx").spec.name == "onnx-cpu-small"
    with pytest.raises(InvalidRequest, match=r"AutoencoderTiny\.from_pretrained"):
        export_model(shared, ExportOptions(layout="diffusers"))


def test_a_stopped_run_goes_on_bit_for_bit(
    tiny_model: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = replace(OPTIONS, steps=6, checkpoint_every=2)
    whole = distil_decoder(tiny_model, ["red apple"], tmp_path / "whole", options)
    wanted = (whole.path / SMALL / "diffusion_pytorch_model.safetensors").read_bytes()
    draw = Latents.trained

    def interrupt(self: Latents, step: int, *rest: object) -> object:
        if step == 3:
            signal.raise_signal(signal.SIGINT)
        return draw(self, step, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Latents, "trained", interrupt)
        with pytest.raises(Stopped, match="stopped after 3 of 6"):
            distil_decoder(tiny_model, ["red apple"], tmp_path / "run", options)
    again = distil_decoder(tiny_model, ["red apple"], tmp_path / "run", options)
    assert (again.path / SMALL / "diffusion_pytorch_model.safetensors").read_bytes() == wanted
    with pytest.raises(InvalidTraining, match="channels"):
        distil_decoder(tiny_model, ["red apple"], tmp_path / "run", replace(options, channels=4))


def test_what_cannot_be_is_one_line(tiny_model: ModelFolder, tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="no small decoder; run: sidestep distill-decoder"):
        tiny_model.with_decoder("small")
    with pytest.raises(InvalidRequest, match="must be one of full, small"):
        tiny_model.with_decoder("tiny")
    bare = ModelFolder(tiny_model.path, replace(tiny_model.card, examples=()))
    with pytest.raises(InvalidTraining, match="--prompts FILE"):
        distil_decoder(bare, [], tmp_path / "run", OPTIONS)
    with pytest.raises(InvalidTraining, match="--channels 2 is below 4"):
        DecoderOptions(channels=2)


def test_one_of_other_weights_is_refused(small: ModelFolder) -> None:
    unet = small.path / "unet" / "diffusion_pytorch_model.safetensors"
    unet.write_bytes(unet.read_bytes() + b"\0")
    folder = write_card(small.path, ModelFolder.open(small.path).card)
    with pytest.raises(InvalidModel, match="a small decoder of other weights; run: sidestep"):
        folder.with_decoder("small")


@pytest.mark.parametrize(("name", "size_px"), [("sd15", 512), ("sd21", 768)], ids=["sd15", "sd21"])
def test_it_fits_stable_diffusion(name: str, size_px: int) -> None:
    """At full size, without values: TAESD's 1.2 million parameters and the pictures' size."""
    architecture = ARCHITECTURES[name]
    with torch.device("meta"):
        tiny = new_decoder(DecoderOptions(), AutoencoderKL(**architecture.vae))
        drawn = tiny.decoder(torch.zeros(1, *architecture.latent_shape))
    assert drawn.shape == (1, 3, size_px, size_px)
    assert 1.2e6 < sum(weight.numel() for weight in tiny.decoder.parameters()) < 1.3e6
