"""A model on disk: the diffusers layout plus `sidestep.json`, our card.

sidestep.json                     what the generator is, how it was made, every file's hash
model_index.json, scheduler/      what diffusers needs to open the folder as a pipeline
tokenizer/ text_encoder/ unet/ vae/
onnx/generator.onnx, onnx/certificate.json
onnx-fp16/ onnx-diffusers/        other precisions and layouts, each with its certificate
engines/                          plans compiled for one GPU, bound by manifests of their own
decoder_small/                    a lighter decoder of the same latents, and beside its weights the
                                  same onnx/, engines/ ... compiled with it
teacher/                          the many-step teacher's unet, which shares all the rest
held-out.txt                      prompts that its teacher never saw, where it brings them
README.md, samples.png, ablations/   the model card for people, and reports that it tells of
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from sidestep.card_formats import FORMAT, migrate
from sidestep.errors import InvalidModel, InvalidRequest
from sidestep.files import sha256, write_json
from sidestep.schedule import MOST_STEPS, NoiseSchedule, noise_shape

CARD = "sidestep.json"
ONNX = "onnx/generator.onnx"
ONNX_FP16 = "onnx-fp16/generator.onnx"
CERTIFICATE = "certificate.json"  # beside a graph or a plan
ONNX_CERTIFICATE = f"onnx/{CERTIFICATE}"
PROMPTS = "prompts.txt"  # that it was distilled on, where a model brings them
HELD_OUT = "held-out.txt"  # prompts that `sidestep evaluate` asks for, where a model brings them
COMPILED = "engines"  # plans are bound to one machine, so the card does not list them
SMALL = "decoder_small"
# Which networks draw a picture with each decoder.
WEIGHTS = {"full": ("text_encoder", "unet", "vae"), "small": ("text_encoder", "unet", SMALL)}
DECODERS = tuple(WEIGHTS)


@dataclass(frozen=True)
class ModelCard:
    """The contents of `sidestep.json`.

    latent_shape: (4, h, w); image_size: (H, W) in pixels; tokens: length of the text
    steps: evaluations of the network per picture, 1 to 8
    schedule: a diffusers scheduler config with `init_timestep`, see `NoiseSchedule.from_config`
    examples: prompts that it draws well; styles: words that may end a prompt; limits: a sentence
    recipe, quality: how the weights were made and what was measured on them
    latency: what a picture takes: `command`, `date`, `machine` and `rows`
    licences: what they hold for -> their names
    onnx_shares: weight files that `onnx/generator.onnx` reads in place
    small_decoder: how `decoder_small/` was made, for which `weights`, its `psnr_db` against the
        full decoder on latents that it was not trained on, and its own `onnx_shares`
    files: SHA-256 of every file that an engine reads, by path inside the folder
    weights: one hash over the hashes of all safetensors files, and the steps if they are several
    """

    name: str
    latent_shape: tuple[int, int, int]
    image_size: tuple[int, int]
    tokens: int
    schedule: dict[str, Any]
    recipe: dict[str, Any] = field(default_factory=dict)
    quality: dict[str, Any] = field(default_factory=dict)
    latency: dict[str, Any] = field(default_factory=dict)
    licences: dict[str, str] = field(default_factory=dict)
    examples: tuple[str, ...] = ()
    styles: tuple[str, ...] = ()
    limits: str = ""
    onnx_shares: tuple[str, ...] = ()
    small_decoder: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    weights: str = ""
    format: int = FORMAT
    steps: int = 1

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """What one picture is drawn from: (4, h, w), or (steps, 4, h, w) for several steps."""
        return noise_shape(self.latent_shape, self.steps)


@dataclass(frozen=True)
class ModelFolder:
    """An opened model folder: its path and its card, as seen with one of its decoders."""

    path: Path
    card: ModelCard
    decoder: str = "full"

    @classmethod
    def open(cls, path: str | Path | None = None) -> ModelFolder:
        """Read the card of `path`, or of the default model; raises InvalidModel naming the file.

        Where there is no such folder, a bare name means an embedded model, as "emoji".
        """
        path = find_model() if path is None else _or_embedded(Path(path))
        card_path = path / CARD
        if not path.is_dir():
            raise InvalidModel(f"{path} is not a folder; give a model folder with --model")
        if not card_path.is_file():
            raise InvalidModel(f"{card_path} is missing; {path} is not a sidestep model")
        try:
            values = json.loads(card_path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InvalidModel(f"{card_path} cannot be read as JSON ({error})") from error
        return cls(path, _card(card_path, values))

    def with_decoder(self, decoder: str) -> ModelFolder:
        """See the folder with its "full" or "small" decoder.

        Of the small one the card's `weights` and `onnx_shares` are other ones, and what is compiled
        lies elsewhere. Raises InvalidRequest for another name and InvalidModel where there is none.
        """
        if decoder not in DECODERS:
            raise InvalidRequest(
                f"decoder is {decoder!r}; it must be one of {', '.join(DECODERS)}", field="decoder"
            )
        folder = ModelFolder.open(self.path) if self.decoder != "full" else self
        if decoder == "full":
            return folder
        made_for = folder.card.small_decoder.get("weights")
        if made_for != folder.card.weights:
            found = "no small decoder" if made_for is None else "a small decoder of other weights"
            raise InvalidModel(
                f"{self.path} has {found}; run: sidestep distill-decoder {self.path}"
            )
        card = replace(
            folder.card,
            weights=_weights_hash(folder.card.files, decoder, folder.card.steps),
            onnx_shares=tuple(folder.card.small_decoder.get("onnx_shares", ())),
        )
        return ModelFolder(self.path, card, decoder)

    def place(self, file: str) -> str:
        """Return where a file or folder that depends on the decoder, such as ONNX, lies."""
        return file if self.decoder == "full" else f"{SMALL}/{file}"

    @property
    def arguments(self) -> str:
        """How a command names this folder and its decoder."""
        return str(self.path) if self.decoder == "full" else f"{self.path} --decoder small"

    @property
    def weight_files(self) -> list[str]:
        """The card's files that hold the weights of the networks that draw."""
        return _weight_files(self.card.files, self.decoder)

    @property
    def schedule(self) -> NoiseSchedule:
        """The noise schedule, with the timesteps at which the generator is evaluated."""
        return NoiseSchedule.from_config(self.card.schedule, steps=self.card.steps)

    def has(self, file: str) -> bool:
        """Tell whether the card lists `file`."""
        return file in self.card.files

    def check(self, files: Iterable[str] | None = None) -> None:
        """Compare files with the card's hashes; raises InvalidModel naming the first that differs.

        Default: all files of the card.
        """
        for file in self.card.files if files is None else files:
            if file not in self.card.files:
                raise InvalidModel(f"{self.path / CARD} does not list {file}")
            path = self.path / file
            if not path.is_file():
                raise InvalidModel(f"{path} is missing; copy the model again")
            if sha256(path) != self.card.files[file]:
                raise InvalidModel(f"{path} does not match {CARD} (damaged); copy the model again")

    def check_beside(self, *new: str) -> None:
        """Check what is there of the card's files, but for the folders `new`, before a new card.

        A card is written with the hashes of what lies there, and would vouch for damaged files.
        Raises InvalidModel naming the first.
        """
        written = tuple(f"{folder}/" for folder in new)
        there = (file for file in self.card.files if (self.path / file).is_file())
        self.check(file for file in there if not file.startswith(written))

    def tolerance(self) -> int:
        """Read the levels of 255 that `onnx/certificate.json` allows; 0 without a certificate.

        Raises InvalidModel if the certificate is damaged.
        """
        file = self.place(ONNX_CERTIFICATE)
        if not self.has(file):
            return 0
        self.check([file])
        try:
            return int(json.loads((self.path / file).read_text(encoding="utf-8"))["tolerance"])
        except (KeyError, TypeError, ValueError) as error:
            message = f"{self.path / file} is not a certificate ({error!r})"
            raise InvalidModel(message) from error

    def files_under(self, *folders: str) -> list[str]:
        """List the card's files inside `folders`."""
        return [file for file in self.card.files if file.split("/", 1)[0] in folders]


def find_model() -> Path:
    """Return the default model: SIDESTEP_MODEL, else `models/emoji` beside or inside the code.

    The first of several, which are separated by commas for `sidestep serve`.
    """
    if chosen := os.environ.get("SIDESTEP_MODEL"):
        return named_folder(chosen.split(",", 1)[0].strip())[1]
    if found := embedded("emoji"):
        return found
    raise InvalidModel("no model found; give one with --model or SIDESTEP_MODEL")


def named_folder(text: str) -> tuple[str | None, Path]:
    """Read FOLDER, or NAME=FOLDER; a folder that exists as written has no name before it.

    FOLDER may be the bare name of an embedded model.
    """
    name, equals, folder = text.partition("=")
    if not equals or "/" in name or Path(text).exists():
        return None, _or_embedded(Path(text))
    return name.strip() or None, _or_embedded(Path(folder.strip()))


def _or_embedded(path: Path) -> Path:
    bare = path.name == str(path) and not path.exists()
    return (embedded(path.name) if bare else None) or path


def embedded(name: str, file: str = CARD) -> Path | None:
    """Find one of the folders that come with the code, beside it or inside it, by a file in it."""
    package = Path(__file__).parent
    for places in (package.parent / "models", package / "_models"):
        if (places / name / file).is_file():
            return places / name
    return None


def write_card(path: Path, card: ModelCard) -> ModelFolder:
    """Hash the folder's files and write `sidestep.json`; returns the folder as it now is.

    Files are taken as they are: see `ModelFolder.check_beside`.
    What a companion reads from the folder beside it (`export.companion`) stays as the card tells.
    """
    listed = [
        file
        for file in sorted(path.rglob("*"))
        if file.is_file()
        and file.name != CARD
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
        and COMPILED not in file.relative_to(path).parts
        and file.suffix in {".json", ".safetensors", ".onnx", ".txt", ".data"}
    ]
    hashes = {file.relative_to(path).as_posix(): sha256(file) for file in listed}
    beside = {file: card.files[file] for file in card.onnx_shares if file.startswith("../")}
    # A companion's graph holds its UNet: no file of its own tells the hash of its weights.
    weights = card.weights if beside else _weights_hash(hashes, "full", card.steps)
    card = replace(card, files={**hashes, **beside}, weights=weights)
    write_json(path / CARD, asdict(card))
    return ModelFolder(path, card)


def _weight_files(files: Iterable[str], decoder: str) -> list[str]:
    networks = WEIGHTS[decoder]
    return [f for f in files if f.endswith(".safetensors") and f.split("/", 1)[0] in networks]


def _weights_hash(hashes: Mapping[str, str], decoder: str, steps: int) -> str:
    parts = [f"{file}:{hashes[file]}" for file in sorted(_weight_files(hashes, decoder))]
    if steps > 1:  # the same weights draw other pictures then
        parts.append(f"steps:{steps}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _card(path: Path, values: Any) -> ModelCard:
    values = migrate(path, values)
    names = {f.name for f in fields(ModelCard)}
    if unknown := sorted(set(values) - names):
        raise InvalidModel(f"{path} has unknown fields: {', '.join(unknown)}")
    try:
        card = ModelCard(**values)
        channels, height, width = (int(n) for n in card.latent_shape)
        rows, columns = (int(n) for n in card.image_size)
        tokens = int(card.tokens)
    except (TypeError, ValueError) as error:
        raise InvalidModel(f"{path} is not a model card ({error})") from error
    if min(channels, height, width, rows, columns) < 1 or tokens < 3:
        raise InvalidModel(
            f"{path}: latent_shape and image_size must be positive, tokens at least 3"
        )
    if type(card.steps) is not int or not 1 <= card.steps <= MOST_STEPS:
        raise InvalidModel(f"{path}: steps is {card.steps!r}; it must be 1 to {MOST_STEPS}")
    return replace(
        card,
        latent_shape=(channels, height, width),
        image_size=(rows, columns),
        tokens=tokens,
        examples=tuple(card.examples),
        styles=tuple(card.styles),
        onnx_shares=tuple(card.onnx_shares),
    )
