"""The stages of a run, each with what it is made from and what it makes."""

from __future__ import annotations

from dataclasses import asdict
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import Any

from bench.quality.coco import PREPARED, TEXTS
from distill.architecture_check import read_schedule
from distill.architectures import unusual_part
from distill.folders import teacher_hash
from distill.presets import PRESETS
from export.options import ExportOptions
from sidestep.errors import InvalidModel
from sidestep.files import sha256
from sidestep.model_folder import CERTIFICATE, SMALL, ModelFolder
from sidestep.pipeline import work
from sidestep.pipeline.ledger import TRAINING, fingerprint
from sidestep.pipeline.options import EMOJI, RunOptions
from sidestep.pipeline.stages import Stage

CHECKS, QUALITY, ENGINES = "checks.json", "quality/quality.json", "engines.json"
COCO = "coco/paper.json"


class Recipe:
    """A run's folder and stages.

    OUT/model              what is served
    OUT/distil-1a2b3c4d/   its training, for each teacher and prompts a folder of its own
    OUT/quality/, OUT/coco/, OUT/engines.json, OUT/checks.json   what was measured
    OUT/run.json, OUT/run.log   what is finished, and what was said
    """

    def __init__(self, options: RunOptions) -> None:
        self.options, self.out = options, options.out
        self.model = options.out / "model"

    def stages(self) -> list[Stage]:
        """List what this run does, in order."""
        options = self.options
        stages = [self._distil()]
        if options.decoder:
            stages.append(self._small_decoder())
        for export in options.exports:
            stages += [self._export(export, name) for name in self._decoders]
        stages.append(self._certify())
        if options.preset == EMOJI or options.coco:
            stages.append(self._evaluate())
        return [*stages, self._bench(), self._card()]

    @property
    def _decoders(self) -> tuple[str, ...]:
        return ("full", "small") if self.options.decoder else ("full",)

    @cached_property
    def _taught(self) -> str:
        """Hash what is learned from: another teacher or other prompts begin a training anew."""
        told: list[Any] = [teacher_hash(self.options.teacher), self.options.prompts]
        if unusual := unusual_part(read_schedule(self.options.teacher)):
            told.append(unusual)
        return fingerprint(told)

    def _distil(self) -> Stage:
        options = self.options
        training = self.out / f"{TRAINING}{self._taught[:8]}"
        recipe = PRESETS[options.preset].about
        return Stage(
            "distil",
            f"SiD-LSG, {recipe}, into {training}",
            inputs=lambda: [self._taught, asdict(options.distil)],
            outputs=partial(_weights, self.model),
            work=partial(work.distil, options, training, self.model),
        )

    def _small_decoder(self) -> Stage:
        settings = self.options.decoder
        assert settings is not None
        folder = self.out / "decoder"
        return Stage(
            "decoder",
            f"a lighter decoder, {settings.steps:,} updates of {settings.batch}",
            inputs=lambda: [_weights(self.model), asdict(settings)],
            outputs=partial(_weights, self.model, "small"),
            work=partial(work.small_decoder, self.options, folder, self.model),
        )

    def _export(self, options: ExportOptions, decoder: str) -> Stage:
        small = ", small decoder" if decoder == "small" else ""
        return Stage(
            f"export {options.to} {options.precision}{small}",
            "compile, and compare with PyTorch",
            inputs=lambda: [
                _weights(self.model, decoder),
                asdict(options),
                work.bound_to() if options.is_plan else [],
            ],
            outputs=partial(_all_of, self._place(options, decoder)),
            work=partial(work.export, self.model, decoder, options),
        )

    def _place(self, options: ExportOptions, decoder: str) -> Path:
        base = self.model if decoder == "full" else self.model / SMALL
        return base / options.folder

    def _certify(self) -> Stage:
        return Stage(
            "certify",
            "draw with every engine that works here, and compare",
            inputs=self._compiled,
            outputs=partial(_hash, self.out / CHECKS),
            work=partial(work.certify, self.model, self.out / CHECKS),
        )

    def _evaluate(self) -> Stage:
        options = self.options
        if options.preset == EMOJI:
            return Stage(
                "evaluate",
                "judge the pictures beside the teacher's and real ones",
                inputs=lambda: [self._compiled(), work.judged(options), work.judge_hash()],
                outputs=partial(_hash, self.out / QUALITY),
                work=partial(work.evaluate, options, self.model),
            )
        assert options.coco is not None
        reference = [options.coco / name for name in (PREPARED, TEXTS)]
        return Stage(
            "evaluate",
            f"the paper's protocol on {options.coco}",
            inputs=lambda: [self._compiled(), options.coco, *map(_hash, reference)],
            outputs=partial(_hash, self.out / COCO),
            work=partial(work.evaluate_coco, options, self.model),
        )

    def _bench(self) -> Stage:
        return Stage(
            "bench",
            "time the engine that serving chooses",
            inputs=lambda: [self._compiled(), work.here(), self.options.is_short],
            outputs=partial(_hash, self.out / ENGINES),
            work=partial(work.bench, self.options, self.model, self.out / ENGINES),
        )

    def _card(self) -> Stage:
        measured = [self.out / name for name in (QUALITY, COCO, ENGINES)]
        return Stage(
            "card",
            "draw the samples and write the model card",
            inputs=lambda: [self._compiled(), *map(_hash, measured)],
            outputs=partial(_hash, self.model / "README.md"),
            work=partial(work.card, self.options, self.model, measured),
        )

    def _compiled(self) -> list[Any]:
        """Identify the model and all that was compiled from it."""
        certificates = [
            (self._export(*one).name, _hash(self._place(*one) / CERTIFICATE))
            for one in product(self.options.exports, self._decoders)
        ]
        return [_weights(self.model), *certificates]


def _weights(path: Path, decoder: str = "full") -> str | None:
    """Return the hash of a model's weights; None unless all of them are there, undamaged."""
    try:
        folder = ModelFolder.open(path).with_decoder(decoder)
        folder.check(folder.weight_files)
    except InvalidModel:
        return None
    return folder.card.weights


def _all_of(place: Path) -> str | None:
    """Hash all files of an export; None where its certificate is not there."""
    if not (place / CERTIFICATE).is_file():
        return None
    return fingerprint([(file.name, _hash(file)) for file in sorted(place.iterdir())])


def _hash(path: Path) -> str | None:
    return sha256(path) if path.is_file() else None
