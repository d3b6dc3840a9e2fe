"""Train the embedded model's teacher from nothing: data, tokenizer, autoencoder, text and UNet.

OUT/autoencoder/, OUT/teacher/   states, logs and grids of the two trainings
OUT/latents.safetensors          the data set, encoded once
OUT/lighter/                     a lighter autoencoder of the same latents, where one is asked for
OUT/prompts.txt                  every caption, the prompts that SiD-LSG trains on
OUT/model/                       the finished teacher, in the diffusers layout
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from distill import emoji_data
from distill.architectures import SCHEDULE
from distill.autoencoder import AutoencoderOptions, encode_all, train_autoencoder
from distill.captions import train_bpe
from distill.emoji_data import EmojiSet
from distill.emoji_sources import caption, styled
from distill.folders import (
    TRAINING,
    Teacher,
    load_teacher,
    read_training,
    write_teacher,
)
from distill.processes import current
from distill.teacher import (
    CaptionedLatents,
    TeacherOptions,
    new_text_encoder,
    new_unet,
    train_teacher,
)
from sidestep.files import atomic_path, write_bytes, write_json
from sidestep.schedule import NoiseSchedule
from sidestep.tokenizer import PromptTokenizer

TOKENS = 24  # the longest caption has 12
VOCABULARY = 4096


@dataclass(frozen=True)
class EmojiTeacherOptions:
    """The two trainings, the picture size in pixels, and the run to go on from.

    start_from: a teacher's or a student's folder; its tokenizer and autoencoder are taken over,
        and its teacher is where this one starts
    lighter: a second autoencoder that learns the first one's latents and replaces it at the end
    """

    autoencoder: AutoencoderOptions = AutoencoderOptions()
    teacher: TeacherOptions = TeacherOptions()
    size_px: int = 64
    start_from: Path | None = None
    lighter: AutoencoderOptions | None = None


def train_emoji_teacher(
    data: Path, out: Path, options: EmojiTeacherOptions, *, device: str = "cpu"
) -> Path:
    """Train everything that `out` does not hold yet; returns the teacher's folder.

    Under torchrun the first process makes the tokenizer, autoencoder and latents while the others
    wait; then all train the teacher, each on its rows of every batch.
    """
    processes = current()
    sets = emoji_data.load(data, size_px=options.size_px)
    plain = [caption(name) for part in sets for name in part.names]
    with_style = [styled(caption(name), part.style) for part in sets for name in part.names]
    if processes.writes:
        prompts = sorted({*plain, *with_style})
        write_bytes(out / "prompts.txt", ("\n".join(prompts) + "\n").encode())
        _tokenizer(with_style, out / "tokenizer", options)
        _autoencoder(sets, out / "autoencoder", options, device)
        _latents(sets, out, device)
        _lighter(sets, out, options.lighter, device)
    processes.wait()
    tokenizer = PromptTokenizer(out / "tokenizer", length=TOKENS)
    latents = load_file(out / "latents.safetensors")["latents"]
    ids = torch.from_numpy(np.stack([tokenizer(plain), tokenizer(with_style)], axis=1))
    captioned = CaptionedLatents(latents, ids, torch.from_numpy(tokenizer.encode("").ids))

    torch.manual_seed(options.teacher.seed)
    if options.start_from:
        before = load_teacher(options.start_from)
        text, unet = (
            net.train().requires_grad_(True) for net in (before.text_encoder, before.unet)
        )
    else:
        text = new_text_encoder(options.teacher, vocabulary=tokenizer.end + 1, length=TOKENS)
        unet = new_unet(options.teacher, latent_size=latents.shape[-1])
    text, unet = train_teacher(
        (text.to(device), unet.to(device, memory_format=torch.channels_last)),
        captioned,
        NoiseSchedule.from_config(SCHEDULE),
        options.teacher,
        out / "teacher",
    )
    if processes.writes:
        vae = _read_autoencoder(out / ("lighter" if options.lighter else "autoencoder"))
        write_teacher(out / "model", Teacher(text, unet, vae, out / "tokenizer", SCHEDULE))
        write_json(out / "model" / TRAINING, _training(options, len(latents)))
    processes.wait()
    return out / "model"


def _training(options: EmojiTeacherOptions, pictures: int) -> dict[str, Any]:
    """Tell how the teacher was made; a run that started from another tells of that one first."""
    before = read_training(options.start_from) if options.start_from else None
    before = before or {"autoencoder": asdict(options.autoencoder), "teacher": []}
    if options.lighter:
        before = {**before, "lighter_autoencoder": asdict(options.lighter)}
    phase = {"pictures": pictures, "size_px": options.size_px, **asdict(options.teacher)}
    return {**before, "teacher": [*before["teacher"], phase]}


def _tokenizer(captions: list[str], out: Path, options: EmojiTeacherOptions) -> None:
    if options.start_from:
        shutil.copytree(options.start_from / "tokenizer", out, dirs_exist_ok=True)
    else:
        train_bpe(captions, out, vocab_size=VOCABULARY, max_tokens=TOKENS)


def _autoencoder(
    sets: list[EmojiSet], out: Path, options: EmojiTeacherOptions, device: str
) -> None:
    if options.start_from:
        shutil.copytree(options.start_from / "vae", out / "vae", dirs_exist_ok=True)
    elif not (out / "vae" / "config.json").exists():
        pictures = np.concatenate([part.pictures for part in sets])
        vae = train_autoencoder(pictures, options.autoencoder, out, device=device)
        vae.save_pretrained(out / "vae")


def _latents(sets: list[EmojiSet], out: Path, device: str) -> None:
    path = out / "latents.safetensors"
    if not path.exists():
        vae = _read_autoencoder(out / "autoencoder").to(device)
        parts = [encode_all(vae, part.pictures, device=device) for part in sets]
        scaled = torch.cat(parts) * vae.config.scaling_factor
        with atomic_path(path) as temporary:
            save_file({"latents": scaled.contiguous()}, temporary)


def _lighter(
    sets: list[EmojiSet], out: Path, options: AutoencoderOptions | None, device: str
) -> None:
    if options and not (out / "lighter" / "vae" / "config.json").exists():
        pictures = np.concatenate([part.pictures for part in sets])
        keep = load_file(out / "latents.safetensors")["latents"]
        vae = train_autoencoder(pictures, options, out / "lighter", keep=keep, device=device)
        vae.save_pretrained(out / "lighter" / "vae")


def _read_autoencoder(out: Path) -> AutoencoderKL:
    vae = AutoencoderKL.from_pretrained(out / "vae", local_files_only=True, use_safetensors=True)
    return vae.eval().requires_grad_(False)
