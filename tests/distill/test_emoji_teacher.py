"""From pictures to a teacher that diffusers opens, at the smallest size."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file as load_numpy
from safetensors.numpy import save_file
from safetensors.torch import load_file

from distill import emoji_data
from distill.autoencoder import (
    AutoencoderOptions,
    new_autoencoder,
    reconstruction_loss,
    to_pictures,
    to_unit,
    train_autoencoder,
)
from distill.emoji_data import _identity
from distill.emoji_sources import SOURCES
from distill.emoji_teacher import EmojiTeacherOptions, read_autoencoder, train_emoji_teacher
from distill.folders import Teacher, load_teacher, write_teacher
from distill.picture_quality import psnr
from distill.processes import Processes
from distill.teacher import CaptionedLatents, TeacherOptions, draw_batch
from sidestep.errors import InvalidData, InvalidModel, InvalidTraining

OPTIONS = EmojiTeacherOptions(
    autoencoder=AutoencoderOptions(channels=(8, 16), steps=2, batch=2, warmup_steps=1),
    teacher=TeacherOptions(
        channels=(16, 32), text_width=16, text_layers=1, steps=2, batch=2, warmup_steps=1
    ),
    size_px=16,
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    pictures: NDArray[np.uint8] = np.random.default_rng(0).integers(
        0, 256, (3, 16, 16, 3), dtype=np.uint8
    )
    for source in SOURCES:
        metadata = {"names": '["red-apple", "pizza", "cat-face"]', "package": _identity(source)}
        save_file(
            {"pictures": pictures}, tmp_path / f"{source.style}-16.safetensors", metadata=metadata
        )
    return tmp_path


def test_a_teacher_is_trained_resumed_and_written(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    teacher = load_teacher(train_emoji_teacher(data, out, OPTIONS))
    assert teacher.latent_shape == (4, 8, 8)
    assert teacher.image_size == (16, 16)
    assert teacher.vae.config.scaling_factor > 0
    assert (out / "prompts.txt").read_text().splitlines()[:2] == ["cat face", "cat face, flat"]
    first = teacher.unet.state_dict()
    again = load_teacher(train_emoji_teacher(data, out, OPTIONS)).unet.state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)


def test_a_run_goes_on_with_its_own_pictures_alone(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train_emoji_teacher(data, out, OPTIONS)
    told = json.loads((out / "model" / "training.json").read_text())
    assert told["teacher"][0]["size_px"] == 16
    words = (out / "prompts.txt").read_bytes()
    with pytest.raises(InvalidData, match=r"noto-32\.safetensors is missing; run: .* --size 32"):
        train_emoji_teacher(data, out, replace(OPTIONS, size_px=32))
    shard = data / "noto-16.safetensors"
    metadata = {"names": '["star", "key", "crown"]', "package": _identity(SOURCES[0])}
    save_file(load_numpy(shard), shard, metadata=metadata)
    with pytest.raises(InvalidTraining, match="run was begun with other pictures"):
        train_emoji_teacher(data, out, OPTIONS)
    assert (out / "prompts.txt").read_bytes() == words


def test_a_teacher_starts_from_another_run(data: Path, tmp_path: Path) -> None:
    train_emoji_teacher(data, tmp_path / "a", OPTIONS)
    options = replace(OPTIONS, start_from=tmp_path / "a" / "model")
    train_emoji_teacher(data, tmp_path / "b", options)
    ours, theirs = (load_teacher(tmp_path / run / "model").vae.state_dict() for run in "ab")
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    unet = tmp_path / "a" / "model" / "unet" / "diffusion_pytorch_model.safetensors"
    unet.write_bytes(b"broken")
    with pytest.raises(InvalidModel, match="unet cannot be read"):
        train_emoji_teacher(data, tmp_path / "c", options)


def test_a_run_goes_on_from_its_own_teacher_alone(data: Path, tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    options = replace(OPTIONS, start_from=train_emoji_teacher(data, a, OPTIONS))
    train_emoji_teacher(data, b, options)
    train_emoji_teacher(data, b, options)
    for out, other in ((a, options), (b, OPTIONS), (b, replace(OPTIONS, start_from=b / "model"))):
        told = (out / "model" / "training.json").read_bytes()
        with pytest.raises(InvalidTraining, match=r"begun .* from another teacher; choose another"):
            train_emoji_teacher(data, out, other)
        assert (out / "model" / "training.json").read_bytes() == told


def test_a_finished_lighter_autoencoder_is_not_taken_for_another(
    data: Path, tmp_path: Path
) -> None:
    lighter = AutoencoderOptions((8, 8), steps=1, batch=2, warmup_steps=1)
    work = (data, tmp_path / "run")
    train_emoji_teacher(*work, replace(OPTIONS, lighter=lighter))
    with pytest.raises(InvalidTraining, match=r"channels \(\[8, 8\] -> \[8, 16\]\); choose anoth"):
        train_emoji_teacher(*work, replace(OPTIONS, lighter=replace(lighter, channels=(8, 16))))
    train_emoji_teacher(*work, replace(OPTIONS, lighter=replace(lighter, seconds=9.0)))


def test_a_lighter_autoencoder_takes_over_the_latents(data: Path, tmp_path: Path) -> None:
    lighter = AutoencoderOptions((8, 8), steps=60, batch=8, learning_rate=1e-2, warmup_steps=1)
    folder = train_emoji_teacher(data, tmp_path / "run", replace(OPTIONS, lighter=lighter))
    teacher = load_teacher(folder)
    assert tuple(teacher.vae.config.block_out_channels) == (8, 8)
    assert teacher.latent_shape == (4, 8, 8)
    scale = read_autoencoder(tmp_path / "run" / "autoencoder").config.scaling_factor
    assert teacher.vae.config.scaling_factor == scale != 1
    latents = load_file(tmp_path / "run" / "latents.safetensors")["latents"]
    pictures = torch.from_numpy(emoji_data.load(data, size_px=16)[0].pictures)
    with torch.no_grad():
        ours = scale * teacher.vae.encode(to_unit(pictures)).latent_dist.mean
    assert float((ours - latents[:3]).square().mean()) < 0.5 * float(latents.square().mean())
    assert json.loads((folder / "training.json").read_text())["lighter_autoencoder"]["steps"] == 60


def test_a_lighter_autoencoder_begins_with_what_fits_of_the_first_one(
    tmp_path: Path,
) -> None:
    first = new_autoencoder(AutoencoderOptions((8, 16)), size_px=16).requires_grad_(False)
    x = torch.zeros(2, 16, 16, 3, dtype=torch.uint8)
    lighter = AutoencoderOptions((8, 8), steps=1, batch=1, warmup_steps=2, learning_rate=1e-9)
    begun = train_autoencoder(x, lighter, tmp_path, keep=torch.zeros(2, 4, 8, 8), start=first)
    torch.testing.assert_close(begun.encoder.conv_in.weight, first.encoder.conv_in.weight)


def test_a_second_autoencoder_of_the_same_channels_learns_to_forgive_noise_alone(
    data: Path, tmp_path: Path
) -> None:
    first = replace(OPTIONS.autoencoder, steps=100, batch=8, learning_rate=1e-2)
    second = replace(first, latent_noise=1.0)
    options = replace(OPTIONS, autoencoder=first, lighter=second)
    folder = train_emoji_teacher(data, tmp_path / "run", options)
    before, after = read_autoencoder(tmp_path / "run" / "autoencoder"), load_teacher(folder).vae
    scale = before.config.scaling_factor
    assert after.config.scaling_factor == scale != 1
    x = to_unit(torch.from_numpy(emoji_data.load(data, size_px=16)[0].pictures))
    with torch.no_grad():
        latents = before.encode(x).latent_dist.mean
        torch.testing.assert_close(  # the teacher's weights are fp16
            after.encode(x).latent_dist.mean, latents, atol=0.01, rtol=0.01
        )
        noise = torch.randn(16, *latents.shape, generator=torch.Generator().manual_seed(0))
        noisy = (latents + 0.5 * noise / scale).flatten(0, 1)
        errors = [
            float((vae.decode(noisy).sample - x.repeat(16, 1, 1, 1)).square().mean())
            for vae in (before, after)
        ]
    assert errors[1] < 0.8 * errors[0]


def test_processes_that_cannot_share_the_batch_are_told_before_any_work(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distill.emoji_teacher.current", lambda: Processes(0, 3))
    with pytest.raises(InvalidTraining, match="--batch 2 cannot be shared evenly by 3 processes"):
        train_emoji_teacher(data, tmp_path / "run", OPTIONS)
    assert not (tmp_path / "run").exists()


def test_a_lighter_autoencoder_of_other_latents_is_refused_before_any_work(
    data: Path, tiny_teacher: Teacher, tmp_path: Path
) -> None:
    lighter = AutoencoderOptions((8, 8, 8), steps=1, batch=2)
    write_teacher(tmp_path / "a", tiny_teacher)
    for before in (None, tmp_path / "a"):
        options = replace(OPTIONS, lighter=lighter, start_from=before)
        with pytest.raises(InvalidTraining, match=r"--lighter has 3 .* first autoencoder 2"):
            train_emoji_teacher(data, tmp_path / "run", options)
    assert not (tmp_path / "run").exists()


def test_a_size_that_cannot_be_halved_is_refused_before_any_work(
    write_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    bundle = write_bundle(["pizza", "crown"], synonyms={})  # of 16 pixels
    first = replace(OPTIONS.autoencoder, channels=(8,) * 6)
    for data, options, told in (
        (bundle, replace(OPTIONS, autoencoder=first), r"16 px.* --size that is a multiple of 32"),
        (tmp_path, replace(OPTIONS, size_px=25), r"25 px.* --size that is a multiple of 2"),
    ):
        with pytest.raises(InvalidTraining, match=told):
            train_emoji_teacher(data, tmp_path / "run", options)
    assert not (tmp_path / "run").exists()


def test_a_damaged_teacher_is_named(data: Path, tmp_path: Path) -> None:
    folder = train_emoji_teacher(data, tmp_path / "run", OPTIONS)
    (folder / "scheduler" / "scheduler_config.json").unlink()
    with pytest.raises(InvalidModel, match=r"scheduler_config\.json cannot be read"):
        load_teacher(folder)


def test_a_step_draws_the_same_whenever_it_is_drawn() -> None:
    latents = torch.arange(10.0).view(10, 1, 1, 1).expand(10, 4, 2, 2)
    captions = torch.arange(20).view(10, 2, 1)
    data = CaptionedLatents(latents, captions, torch.tensor([-1]))
    options = TeacherOptions(batch=4000)
    x0, ids, noise, t = draw_batch(data, options, 5)
    again = draw_batch(data, options, 5)
    assert all(torch.equal(a, b) for a, b in zip((x0, ids, noise, t), again, strict=True))
    assert not torch.equal(noise, draw_batch(data, options, 6)[2])
    dropped = ids[:, 0] == -1
    assert float(dropped.float().mean()) == pytest.approx(0.1, abs=0.02)
    assert torch.equal(ids[~dropped, 0] // 2, x0[~dropped, 0, 0, 0].long())
    assert int(t.min()) >= 0
    assert int(t.max()) <= 999


def test_the_reconstruction_loss_sees_edges() -> None:
    x = torch.zeros(1, 3, 8, 8)
    y = x.clone()
    y[..., 4:] = 1  # one sharp edge
    z = x + 0.5  # the same mean error, no edge inside
    assert float(reconstruction_loss(x, x, edge_weight=0.5)) == 0
    with_edge, without = (
        float(
            reconstruction_loss(x, other, edge_weight=1)
            - reconstruction_loss(x, other, edge_weight=0)
        )
        for other in (y, z)
    )
    assert with_edge > without > 0  # zero padding gives z an edge at its border


def test_pixels_survive_the_way_to_the_network_and_back() -> None:
    pictures = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(1, 16, 16, 3)
    x = to_unit(pictures)
    assert float(x.min()) == -1
    assert float(x.max()) == 1
    assert np.abs(to_pictures(x).astype(int) - pictures.numpy()).max() <= 1
    assert psnr(torch.zeros(1), torch.full((1,), 0.2)) == pytest.approx(20)


def test_a_teacher_tells_how_it_was_made(data: Path, tmp_path: Path) -> None:
    train_emoji_teacher(data, tmp_path / "a", OPTIONS)
    folder = train_emoji_teacher(
        data, tmp_path / "b", replace(OPTIONS, start_from=tmp_path / "a" / "model")
    )
    training = json.loads((folder / "training.json").read_text())
    assert [phase["pictures"] for phase in training["teacher"]] == [12, 12]
    assert training["autoencoder"]["steps"] == 2


def test_a_written_model_names_no_path_of_this_machine(data: Path, tmp_path: Path) -> None:
    train_emoji_teacher(data, tmp_path / "a", OPTIONS)
    options = replace(OPTIONS, start_from=tmp_path / "a" / "model")
    folder = train_emoji_teacher(data, tmp_path / "b", options)
    texts = [path.read_text() for path in folder.rglob("*.json")]
    assert not any(str(tmp_path) in text for text in texts)
