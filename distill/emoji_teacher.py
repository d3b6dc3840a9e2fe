"""Train the embedded model's teacher from nothing: data, tokenizer, autoencoder, text and UNet.

OUT/data.json                    the pictures, and the other teacher, that the run began with
OUT/autoencoder/, OUT/teacher/   states, logs and grids of the two trainings
OUT/latents.safetensors          the pictures, encoded once, and OUT/captions.json beside it
OUT/lighter/                     a lighter autoencoder of the same latents, where one is asked for
OUT/prompts.txt                  every caption, the prompts that SiD-LSG trains on
OUT/model/                       the finished teacher, in the diffusers layout

What is finished is not done again, so that the same command goes on where it stopped.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from distill import emoji_data
from distill.architectures import SCHEDULE
from distill.autoencoder import (
    AutoencoderOptions,
    encode_all,
    reconstruction_quality,
    train_autoencoder,
)
from distill.captions import train_bpe
from distill.checkpoints import last_step
from distill.emoji_bundle import is_bundle, read_bundle
from distill.emoji_checks import bind, check_sizes
from distill.emoji_pictures import Amounts, TrainingPictures, make_pictures
from distill.emoji_sources import caption, styled
from distill.folders import (
    TRAINING,
    Teacher,
    load_teacher,
    read_network,
    read_training,
    save_network,
    write_teacher,
)
from distill.held_out import held_out, read_prompts
from distill.interrupts import stop_requests
from distill.processes import Processes, current, training_device
from distill.teacher import (
    CaptionedLatents,
    TeacherOptions,
    new_text_encoder,
    new_unet,
    train_teacher,
)
from sidestep.errors import InvalidTraining, Stopped
from sidestep.files import atomic_folder, atomic_path, write_bytes, write_json
from sidestep.schedule import NoiseSchedule
from sidestep.tokenizer import PromptTokenizer

TOKENS = 24
VOCABULARY = 4096
CAPTIONS, QUALITY = "captions.json", "quality.json"
SHARES = (0.55, 0.2, 0.25)  # of plain, recoloured and composed pictures in what the teacher sees


@dataclass(frozen=True)
class EmojiTeacherOptions:
    """The two trainings, the picture size in pixels, and the run to go on from.

    size_px: of the pictures, where a folder holds them in several sizes
    amounts: how many pictures are made from a bundle's
    start_from: a teacher's or a student's folder; its tokenizer and autoencoder are taken over,
        and its teacher is where this one starts
    lighter: a second autoencoder that learns the first one's latents and replaces it at the end;
        with the same channels it is the first one, whose decoder learns to forgive noise
    """

    autoencoder: AutoencoderOptions = AutoencoderOptions()
    teacher: TeacherOptions = TeacherOptions()
    size_px: int = 64
    start_from: Path | None = None
    lighter: AutoencoderOptions | None = None
    amounts: Amounts = Amounts()

    @property
    def shipped(self) -> AutoencoderOptions:
        """The autoencoder that the finished teacher has."""
        return self.lighter or self.autoencoder


def train_emoji_teacher(
    data: Path, out: Path, options: EmojiTeacherOptions, *, device: str = "cpu"
) -> Path:
    """Train everything that `out` does not hold yet; returns the teacher's folder.

    data: the file of `sidestep data bundle`, or the folder of `sidestep data emoji`
    Under torchrun the first process makes the tokenizer, autoencoder and latents while the others
    wait; then all train the teacher, each on its rows of every batch.
    Raises InvalidTraining for a device that is not there, a batch that the processes cannot share,
    pictures of a size that the autoencoder cannot halve, a lighter one that shrinks them otherwise
    than the first, or an `out` that began with other pictures, another teacher or another lighter
    one; Stopped, in all processes, after a checkpoint where SIGINT or SIGTERM asked for it.
    """
    training_device(device)  # before any work
    check_sizes(data, options)
    processes = current()
    processes.rows(options.teacher.batch)
    _prepare_alone(processes, out, partial(_prepare, data, out, options, device))
    captioned = _captioned(out)
    torch.manual_seed(options.teacher.seed)
    if options.start_from:
        before = load_teacher(options.start_from)
        text, unet = (
            net.train().requires_grad_(True) for net in (before.text_encoder, before.unet)
        )
    else:
        end = int(captioned.empty.max())  # the end token, which pads, is the vocabulary's last
        text = new_text_encoder(options.teacher, vocabulary=end + 1, length=TOKENS)
        unet = new_unet(options.teacher, latent_size=captioned.latents.shape[-1])
    text, unet = train_teacher(
        (text.to(device), unet.to(device, memory_format=torch.channels_last)),
        captioned,
        NoiseSchedule.from_config(SCHEDULE),
        options.teacher,
        out / "teacher",
    )
    if processes.writes:
        vae = read_autoencoder(out / ("lighter" if options.lighter else "autoencoder"))
        networks = (text.cpu(), unet.cpu(), vae)
        unseen = read_prompts() if is_bundle(data) else ()
        write_teacher(out / "model", Teacher(*networks, out / "tokenizer", SCHEDULE, unseen))
        size_px = captioned.latents.shape[-1] * 2 ** (len(vae.config.block_out_channels) - 1)
        told = _training(options, captioned, out, size_px=size_px)
        write_json(out / "model" / TRAINING, told)
    processes.wait()
    return out / "model"


def _prepare_alone(processes: Processes, out: Path, work: Callable[[], None]) -> None:
    """Let the first process work while the others wait; all raise Stopped where it was stopped."""
    stopped: Stopped | None = None
    # Those that wait leave a request to stop to the first, which has something to save.
    with nullcontext() if processes.writes else stop_requests():
        if processes.writes:
            try:
                with processes.everyones_threads():
                    work()
            except Stopped as told:
                stopped = told
        step, last = (stopped.step, stopped.last) if stopped else (0, 0)
        step, last = int(processes.first(step)), int(processes.first(last))
    if last:
        raise stopped or Stopped(step, last, out)


def _prepare(data: Path, out: Path, options: EmojiTeacherOptions, device: str) -> None:
    """Make tokenizer, autoencoders, latents and captions, as far as they are not there."""
    bind(data, out, options)
    finished = ["latents.safetensors", CAPTIONS, "prompts.txt", "tokenizer/vocab.json"]
    if options.lighter:
        finished.append("lighter/vae/config.json")
    if all((out / file).exists() for file in finished):
        return
    pictures = read_pictures(data, options, device)
    texts = sorted({text for captions in pictures.captions for text in captions})
    write_bytes(out / "prompts.txt", ("\n".join(texts) + "\n").encode())
    _tokenizer(texts, out / "tokenizer", options)
    _autoencoder(pictures, out / "autoencoder", options, device)
    _latents(pictures, out, device)
    _lighter(pictures, out, options.lighter, device)


def read_pictures(data: Path, options: EmojiTeacherOptions, device: str) -> TrainingPictures:
    """Read a data set onto a device; a bundle also gives recoloured and composed pictures."""
    if is_bundle(data):
        bundle = read_bundle(data)
        held = held_out(bundle.words)
        seed = options.teacher.seed
        return make_pictures(bundle, held, options.amounts, seed=seed, device=device)
    sets = emoji_data.load(data, size_px=options.size_px)
    pictures = torch.from_numpy(np.concatenate([part.pictures for part in sets])).to(device)
    captions = [
        [caption(name), styled(caption(name), part.style)] for part in sets for name in part.names
    ]
    return TrainingPictures(pictures, captions, (len(pictures), 0, 0), pictures[:0])


def _captioned(out: Path) -> CaptionedLatents:
    """Read what the teacher is trained on."""
    tokenizer = PromptTokenizer(out / "tokenizer", length=TOKENS)
    told = json.loads((out / CAPTIONS).read_text(encoding="utf-8"))
    latents = load_file(out / "latents.safetensors")["latents"]
    rows = [[tokenizer.encode(text).ids for text in captions] for captions in told["captions"]]
    empty = torch.from_numpy(tokenizer.encode("").ids)
    ids = torch.from_numpy(np.array(rows))
    return CaptionedLatents(latents, ids, empty, tuple(told["groups"]), SHARES)


def _training(
    options: EmojiTeacherOptions, captioned: CaptionedLatents, out: Path, *, size_px: int
) -> Any:
    """Tell how the teacher was made; a run that started from another tells of that one first."""
    before = read_training(options.start_from) if options.start_from else None
    before = before or {"autoencoder": _told(options.autoencoder, out / "autoencoder")}
    if options.lighter:
        before = {**before, "lighter_autoencoder": _told(options.lighter, out / "lighter")}
    phase = {
        "pictures": len(captioned.latents),
        "groups": captioned.groups,
        "size_px": size_px,
        **_told(options.teacher, out / "teacher"),
    }
    return {**before, "teacher": [*before.get("teacher", []), phase]}


def _told(options: AutoencoderOptions | TeacherOptions, folder: Path) -> dict[str, Any]:
    """Return options with the steps that were taken, which a bound on time makes fewer."""
    return {**asdict(options), "steps": last_step(folder)}


def _tokenizer(captions: list[str], out: Path, options: EmojiTeacherOptions) -> None:
    if options.start_from:
        shutil.copytree(options.start_from / "tokenizer", out, dirs_exist_ok=True)
    else:
        train_bpe(captions, out, vocab_size=VOCABULARY, max_tokens=TOKENS)


def _autoencoder(
    pictures: TrainingPictures, out: Path, options: EmojiTeacherOptions, device: str
) -> None:
    if options.start_from:
        shutil.copytree(options.start_from / "vae", out / "vae", dirs_exist_ok=True)
    elif not (out / "vae" / "config.json").exists():
        vae = train_autoencoder(pictures.pictures, options.autoencoder, out, device=device)
        _write_autoencoder(vae, out, pictures, device)


def _latents(pictures: TrainingPictures, out: Path, device: str) -> None:
    path = out / "latents.safetensors"
    if path.exists():
        told = json.loads((out / CAPTIONS).read_text(encoding="utf-8"))
        if told["captions"] != pictures.captions:
            raise InvalidTraining(f"{path} belongs to other pictures; choose another --out")
    else:
        vae = read_autoencoder(out / "autoencoder").to(device)
        scaled = encode_all(vae, pictures.pictures, device=device) * vae.config.scaling_factor
        told = {"captions": pictures.captions, "groups": pictures.groups}
        write_json(out / CAPTIONS, told)
        with atomic_path(path) as temporary:
            save_file({"latents": scaled.contiguous()}, temporary)


def _lighter(
    pictures: TrainingPictures, out: Path, options: AutoencoderOptions | None, device: str
) -> None:
    if options and not (out / "lighter" / "vae" / "config.json").exists():
        keep = load_file(out / "latents.safetensors")["latents"].to(device)
        first = read_autoencoder(out / "autoencoder")
        vae = train_autoencoder(
            pictures.pictures,
            options,
            out / "lighter",
            keep=keep,
            start=first,
            device=device,
        )
        _write_autoencoder(vae, out / "lighter", pictures, device)


def _write_autoencoder(
    vae: AutoencoderKL, out: Path, pictures: TrainingPictures, device: str
) -> None:
    """Write a trained autoencoder, whole or not at all, and how well it does on unseen pictures."""
    if len(pictures.held_out):
        write_json(out / QUALITY, reconstruction_quality(vae, pictures.held_out, device=device))
    with atomic_folder(out / "vae") as new:
        save_network(vae.cpu(), new)


def read_autoencoder(out: Path) -> AutoencoderKL:
    """Read the autoencoder of a stage's folder, frozen."""
    return read_network(AutoencoderKL, out / "vae")
