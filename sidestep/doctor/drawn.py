"""What one engine draws at known seeds; it runs in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.certificate import Certificate, Reference, certify, draw_reference
from sidestep.doctor.findings import Finding, note, ok, problem
from sidestep.engines.contract import Engine, precision_of
from sidestep.engines.load import load_engine
from sidestep.errors import (
    BackendUnavailable,
    CertificateFailed,
    EngineMismatch,
    NoGpu,
    SidestepError,
    one_line,
)
from sidestep.generator import Generator
from sidestep.model_folder import ModelFolder
from sidestep.noise import latent_noise
from sidestep.tokenizer import PromptTokenizer
from sidestep.verification import verify

CONSTANT = 1.0  # standard deviation in levels below which a picture shows nothing


@dataclass(frozen=True)
class Known:
    """Prompts of a model folder; prompt i is drawn at seed i."""

    path: Path
    decoder: str
    prompts: tuple[str, ...]

    def __str__(self) -> str:
        last = len(self.prompts) - 1
        return f"{last + 1} examples at seeds 0 to {last}" if last else "1 example at seed 0"

    @property
    def folder(self) -> ModelFolder:
        """The model, with the decoder in question."""
        return ModelFolder.open(self.path).with_decoder(self.decoder)

    @property
    def tokenizer(self) -> PromptTokenizer:
        """The model's."""
        return PromptTokenizer(self.path / "tokenizer", length=self.folder.card.tokens)


def draw_with_pytorch(known: Known) -> Reference:
    """Draw with fp32 PyTorch on the CPU; raises CertificateFailed for what is flat or NaN."""
    from sidestep.engines.torch_module import load_module

    module = load_module(known.folder)

    def check_finite(_: Any, __: Any, pictures: Any) -> None:
        if not pictures.isfinite().all():
            raise CertificateFailed("PyTorch draws values that are not finite (NaN)")

    module.vae.decoder.register_forward_hook(check_finite)
    shape = known.folder.card.noise_shape
    return draw_reference(module, known.tokenizer, shape, known.prompts)


def examine(known: Known, engine: str, reference: Reference | None) -> list[Finding]:
    """Open an engine, draw with it and judge its pictures; whatever it raises is a finding.

    reference: fp32 PyTorch's pictures; without them the engine is only compared with itself
    """
    findings: list[Finding] = []
    try:
        findings.extend(_examine(known, engine, reference))
    except (BackendUnavailable, EngineMismatch, NoGpu) as error:
        findings.append(note(engine, f"not tried: {error}"))
    except SidestepError as error:
        findings.append(problem(engine, str(error)))
    except Exception as error:  # a library's own
        findings.append(problem(engine, in_one_line(error)))
    return findings


def in_one_line(error: Exception) -> str:
    """Write what a library raised as one line of a finding."""
    return f"{type(error).__name__}: {one_line(error)}"


def _examine(known: Known, name: str, reference: Reference | None) -> Iterator[Finding]:
    folder = known.folder
    engine = load_engine(folder, name)
    name = engine.spec.name
    count = min(len(known.prompts), engine.spec.max_batch)
    ids = known.tokenizer(known.prompts)[:count]
    noise = latent_noise(range(count), folder.card.noise_shape)
    drawn, again = engine(ids, noise), engine(ids, noise)
    yield judge(name, known, drawn, again)
    own = Reference(known.prompts[:count], ids, noise, drawn)
    yield _compare(engine, reference or own, "itself" if reference is None else "fp32 PyTorch")
    yield _verify(engine, known, folder)


def judge(name: str, known: Known, drawn: NDArray[np.uint8], again: NDArray[np.uint8]) -> Finding:
    """Judge pictures [B, H, W, 3] and the same drawn again: none constant, no byte different."""
    contrast = drawn.std(axis=(1, 2)).mean(axis=-1)  # [B]
    flat = int(contrast.argmin())
    if contrast[flat] < CONSTANT:
        return problem(name, f"{known.prompts[flat]!r} at seed {flat} is one colour, as of NaN")
    if not np.array_equal(drawn, again):
        largest = np.abs(drawn.astype(np.int16) - again).max()
        return problem(name, f"draws other pictures the second time, up to {largest}/255 off")
    return ok(name, f"opens and draws {known}, none constant, the same twice")


def _compare(engine: Engine, reference: Reference, whose: str) -> Finding:
    name = engine.spec.name
    try:
        certificate = certify(reference, engine, precision=precision_of(name))
        return ok(name, _told(certificate, whose))
    except CertificateFailed as error:
        return problem(name, str(error))


def _told(certificate: Certificate, whose: str) -> str:
    psnr = "" if certificate.psnr_db is None else f" ({certificate.psnr_db} dB)"
    batches = ", ".join(map(str, certificate.batches))
    return (
        f"up to {certificate.largest_difference}/255 from {whose}{psnr}, "
        f"{certificate.batch_invariance}/255 between alone and in batches of {batches}; "
        f"{certificate.precision} allows {certificate.tolerance}"
    )


def _verify(engine: Engine, known: Known, folder: ModelFolder) -> Finding:
    """Draw a file and verify it from the recipe inside it."""
    generator = Generator(folder.card.name, known.tokenizer, engine)
    picture = generator(known.prompts[0], seed=0)
    verdict = verify(picture.data, folder, generator)
    text = f"the recipe of {known.prompts[0]!r} verifies, {verdict.largest_difference}/255 off"
    return ok(engine.spec.name, text)
