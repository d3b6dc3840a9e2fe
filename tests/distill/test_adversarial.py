"""The adversarial term against a second transcription, and where its gradients go."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image
from safetensors.numpy import save_file
from torch import Tensor

from distill.adversarial import adversarial_losses, discriminator_losses
from distill.emoji_data import _identity
from distill.emoji_sources import SOURCES
from distill.folders import Teacher, write_teacher
from distill.guidance import strategy
from distill.losses import NoisyBatch, generator_losses
from distill.options import DistillOptions
from distill.precision import PRECISIONS
from distill.real_pictures import Pictures, batch_of, encode_real
from distill.sid_lsg import Distillation, Run, distil
from distill.student import distil_folder
from distill.texts import EncodedTexts
from distill.trained import Scoring
from sidestep.errors import InvalidTraining
from sidestep.schedule import NoiseSchedule

SCHEDULE = NoiseSchedule.from_config({})
OPTIONS = DistillOptions(
    iterations=4, batch=2, learning_rate=1e-3, checkpoint_every=2, precision="fp32"
)


@pytest.fixture
def draw() -> Callable[..., Tensor]:
    source = torch.Generator().manual_seed(3)
    return lambda *shape: torch.randn(*shape, generator=source)


@pytest.fixture
def batch(draw: Callable[..., Tensor]) -> NoisyBatch:
    t = torch.tensor([30, 400, 900])
    return NoisyBatch(draw(3, 4, 8, 8), draw(3, 4, 8, 8), t, draw(3, 12, 16), draw(1, 12, 16))


@pytest.fixture
def texts(draw: Callable[..., Tensor]) -> EncodedTexts:
    return EncodedTexts([draw(4, 12, 16)], draw(1, 12, 16))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three files, and what is called like one and is none."""
    folder = tmp_path / "real"
    (folder / "more").mkdir(parents=True)
    (folder / "folder.png").mkdir()
    (folder / "gone.png").symlink_to("nowhere")
    for number, name in enumerate(("a.png", "b.jpg", "more/c.webp")):
        pixels = np.full((20 + number, 30, 3), 60 * number, np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


def critic(x_t: Tensor, t: Tensor, text: Tensor) -> Tensor:
    """Give logits that depend on everything a critic sees: [B, 2, 2]."""
    told = x_t.mean((1, 2, 3)) + t / 1000 + text.mean((1, 2))
    return told[:, None, None] * torch.tensor([[1.0, -2.0], [0.5, 3.0]])


def by_hand(batch: NoisyBatch, clean: Tensor, noise: Tensor) -> list[np.ndarray]:
    """Transcribe D(x_t) in float64, one picture at a time."""
    logits = []
    for index, t in enumerate(batch.t.tolist()):
        x, eps = (value[index].double().numpy() for value in (clean, noise))
        x_t = SCHEDULE.a[t] * x + SCHEDULE.sigma[t] * eps
        told = x_t.mean() + t / 1000 + batch.null_text.double().numpy().mean()
        logits.append(told * np.array([[1.0, -2.0], [0.5, 3.0]]))
    return logits


def test_both_losses_are_the_cross_entropies_of_the_definition(
    batch: NoisyBatch, draw: Callable[..., Tensor]
) -> None:
    real, noise = draw(3, 4, 8, 8), draw(3, 4, 8, 8)
    of_real = by_hand(batch, real, noise)
    of_generated = by_hand(batch, batch.x_g, batch.noise)
    sigmoid = [[1 / (1 + np.exp(-d)) for d in logits] for logits in (of_real, of_generated)]
    told = discriminator_losses(critic, SCHEDULE, batch, real, noise)
    expected = [
        np.mean(-np.log(r) - np.log(1 - g)) for r, g in zip(sigmoid[0], sigmoid[1], strict=True)
    ]
    np.testing.assert_allclose(told.numpy(), expected, rtol=1e-5)
    fooled = adversarial_losses(critic, SCHEDULE, batch)
    np.testing.assert_allclose(fooled.numpy(), [np.mean(-np.log(g)) for g in sigmoid[1]], rtol=1e-5)


def test_the_generator_s_loss_is_half_the_score_s_and_the_term_over_omega(
    batch: NoisyBatch, draw: Callable[..., Tensor]
) -> None:
    shift, guidance = draw(3, 4, 8, 8), strategy("lsg", 1.5)
    fake = lambda x_t, t, text: x_t * 0.5  # noqa: E731
    teacher = lambda x_t, t, text: x_t * 0.4 + shift[: len(x_t) // 2].repeat(2, 1, 1, 1)  # noqa: E731
    one = replace(
        batch, **{name: getattr(batch, name)[:1] for name in ("x_g", "noise", "t", "text")}
    )
    alone = generator_losses(fake, teacher, SCHEDULE, one, guidance)
    term = torch.tensor([0.25])
    both = generator_losses(fake, teacher, SCHEDULE, one, guidance, adversarial=term)
    t = int(one.t)
    a, sigma = SCHEDULE.a[t], SCHEDULE.sigma[t]
    x_t = a * one.x_g.double() + sigma * one.noise.double()
    y_real = (x_t - sigma * (0.4 * x_t + shift[:1].double())) / a
    omega = float((one.x_g - y_real).abs().mean())
    assert float(both) == pytest.approx(0.5 * float(alone) + 4 * 8 * 8 / omega * 0.25, rel=1e-5)


def test_a_critic_is_the_channel_mean_of_the_middle_block(
    tiny_teacher: Teacher, batch: NoisyBatch
) -> None:
    unet = tiny_teacher.unet
    seen: list[Tensor] = []
    hook = unet.mid_block.register_forward_hook(lambda *told: seen.append(told[2]))
    text = batch.text
    try:
        unet(batch.x_g, batch.t, text)
    finally:
        hook.remove()
    logits = Scoring(unet, PRECISIONS["fp32"]).critic(batch.x_g, batch.t, text)
    torch.testing.assert_close(logits, seen[0].mean(1))
    assert logits.ndim == 3
    assert not unet.mid_block._forward_hooks


def test_gradients_go_where_they_belong(
    tiny_teacher: Teacher, texts: EncodedTexts, batch: NoisyBatch, draw: Callable[..., Tensor]
) -> None:
    work = Distillation(tiny_teacher.unet, texts, SCHEDULE, OPTIONS)
    x_g = batch.x_g.requires_grad_(True)
    noise = draw(3, 4, 8, 8)
    discriminator_losses(work.psi.critic, SCHEDULE, batch, draw(3, 4, 8, 8), noise).sum().backward()
    assert x_g.grad is None, "the discriminator does not teach the generator"
    touched = {name for name, weight in work.psi.unet.named_parameters() if weight.grad is not None}
    assert any(name.startswith("down_blocks") for name in touched)
    assert any(name.startswith("mid_block") for name in touched)
    assert not any(name.startswith(("up_blocks", "conv_out")) for name in touched)
    assert all(weight.grad is None for weight in work.phi.unet.parameters()), "nor the teacher"
    work.psi.adam.zero_grad(set_to_none=True)
    with work.psi.frozen():
        adversarial_losses(work.psi.critic, SCHEDULE, batch).sum().backward()
    assert x_g.grad is not None
    assert float(x_g.grad.abs().sum()) > 0
    assert all(weight.grad is None for weight in work.psi.unet.parameters())


@pytest.mark.parametrize(("name", "kappa"), [("zero-cfg", 1), ("anti-cfg", 2)])
def test_it_goes_with_the_strategies_of_its_authors(
    tiny_teacher: Teacher, tmp_path: Path, pictures: Path, name: str, kappa: float
) -> None:
    write_teacher(tmp_path / "teacher", tiny_teacher)
    guidance, real = strategy(name, kappa), str(pictures)
    options = replace(OPTIONS, guidance=guidance, real_images=real, iterations=1)
    distil_folder(tmp_path / "teacher", ["octopus"], tmp_path / "a", options)
    told = json.loads((tmp_path / "a" / "log.jsonl").read_text().splitlines()[0])
    assert all(np.isfinite(told[key]) for key in ("fake", "generator"))
    assert told["discriminator"] > 0
    assert told["adversarial"] > 0


def test_a_stopped_run_ends_where_an_unbroken_one_does(
    tiny_teacher: Teacher, tmp_path: Path, pictures: Path
) -> None:
    options = replace(OPTIONS, iterations=2, checkpoint_every=1, real_images=str(pictures))
    prompts, teacher = ["red apple", "blue heart"], tmp_path / "teacher"
    write_teacher(teacher, tiny_teacher)
    whole = distil_folder(teacher, prompts, tmp_path / "a", options)
    distil_folder(teacher, prompts, tmp_path / "b", replace(options, iterations=1))
    resumed = distil_folder(teacher, prompts, tmp_path / "b", options)
    assert whole.card.weights == resumed.card.weights
    without = distil_folder(teacher, prompts, tmp_path / "c", replace(options, real_images=""))
    assert without.card.weights != whole.card.weights
    assert whole.card.recipe["real_images"] == 3
    assert without.card.recipe["real_images"] == 0


def test_a_discriminator_learns_to_tell_them_apart(
    tiny_teacher: Teacher, texts: EncodedTexts, batch: NoisyBatch, draw: Callable[..., Tensor]
) -> None:
    work = Distillation(tiny_teacher.unet, texts, SCHEDULE, replace(OPTIONS, learning_rate=1e-2))
    easy = replace(batch, t=torch.tensor([30, 40, 50]), x_g=batch.x_g.detach())
    real, noise = easy.x_g + 2, draw(3, 4, 8, 8)
    losses = []
    for _ in range(12):
        loss = discriminator_losses(work.psi.critic, SCHEDULE, easy, real, noise).mean()
        work.psi.backward(loss, last=True)
        work.psi.update()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


def test_other_real_pictures_are_another_run(
    tiny_teacher: Teacher, tmp_path: Path, pictures: Path
) -> None:
    write_teacher(tmp_path / "teacher", tiny_teacher)
    options = replace(OPTIONS, iterations=1, real_images=str(pictures))
    distil_folder(tmp_path / "teacher", ["octopus"], tmp_path / "a", options)
    (pictures / "a.png").unlink()
    with pytest.raises(InvalidTraining, match="real_images"):
        distil_folder(tmp_path / "teacher", ["octopus"], tmp_path / "a", options)


def test_another_autoencoder_has_latents_of_its_own(
    tiny_teacher: Teacher, tmp_path: Path, pictures: Path
) -> None:
    def encode(vae: AutoencoderKL) -> Tensor:
        return encode_real(pictures, vae, (16, 16), tmp_path / "a", device=torch.device("cpu"))

    first = encode(tiny_teacher.vae)
    scaled, other = (copy.deepcopy(tiny_teacher.vae) for _ in range(2))
    scaled.register_to_config(scaling_factor=2 * scaled.config.scaling_factor)
    other.encoder.conv_in.weight.data.add_(1)
    torch.testing.assert_close(encode(scaled), 2 * first)
    assert not torch.equal(encode(other), first)
    written = {path.stat().st_mtime_ns for path in (tmp_path / "a").iterdir()}
    assert torch.equal(encode(tiny_teacher.vae), first)
    assert {path.stat().st_mtime_ns for path in (tmp_path / "a").iterdir()} == written


def test_what_is_no_folder_of_pictures_is_told(
    tiny_teacher: Teacher, tmp_path: Path, pictures: Path
) -> None:
    write_teacher(tmp_path / "teacher", tiny_teacher)
    empty = tmp_path / "empty"
    empty.mkdir()

    def run(folder: Path, **more: object) -> None:
        options = replace(OPTIONS, real_images=str(folder), **more)
        distil_folder(tmp_path / "teacher", ["octopus"], tmp_path / "a", options)

    with pytest.raises(InvalidTraining, match="holds no pictures"):
        run(empty)
    with pytest.raises(InvalidTraining, match="is not a folder"):
        run(tmp_path / "nowhere")
    (pictures / "d.png").write_bytes(b"no picture")
    with pytest.raises(InvalidTraining, match=r"d\.png is not a picture"):
        run(pictures)
    with pytest.raises(InvalidTraining, match="--compile and --real-images"):
        run(pictures, compile=True)


@pytest.mark.parametrize(("side", "batch"), [(64, 64), (128, 64), (512, 4), (2048, 1)])
def test_large_pictures_are_encoded_few_at_once(side: int, batch: int) -> None:
    assert batch_of((side, side)) == batch


def test_real_pictures_that_find_no_memory_are_told(
    tiny_teacher: Teacher, tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode_all(*_: object, **__: object) -> Tensor:
        raise torch.OutOfMemoryError

    monkeypatch.setattr("distill.real_pictures.encode_all", encode_all)
    write_teacher(tmp_path / "teacher", tiny_teacher)
    options = replace(OPTIONS, real_images=str(pictures))
    with pytest.raises(InvalidTraining, match="cpu has too little memory"):
        distil_folder(tmp_path / "teacher", ["octopus"], tmp_path / "a", options)


def test_without_real_pictures_nothing_changes(
    tiny_teacher: Teacher, texts: EncodedTexts, tmp_path: Path
) -> None:
    distil(tiny_teacher.unet, texts, SCHEDULE, OPTIONS, Run(tmp_path))
    told = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert any("fake" in line for line in told)
    assert not any("discriminator" in line or "adversarial" in line for line in told)


def test_real_pictures_of_held_out_names_are_left_out(tmp_path: Path) -> None:
    """`closed book` is held out."""
    rows = np.stack([np.full((16, 16, 3), value, np.uint8) for value in (10, 20)])
    for source in SOURCES:
        metadata = {"names": '["red-apple", "closed-book"]', "package": _identity(source)}
        save_file({"pictures": rows}, tmp_path / f"{source.style}-16.safetensors", metadata)
    pictures = Pictures(tmp_path, (16, 16))
    assert len(pictures) == len(SOURCES)
    assert (pictures.read(slice(None)) == 10).all()
