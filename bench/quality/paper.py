"""The paper's protocol: FID, CLIP score, precision and recall of 30,000 pictures of COCO captions.

Pictures are resized to 256 pixels (Lanczos). FID, precision and recall are of Inception's pooled
features against all of COCO-2014 val, prepared by `bench.quality.coco`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from bench.quality.coco import PICTURES, PREPARED, SIZE_PX, TEXTS
from bench.quality.frechet import Statistics, frechet_distance
from bench.quality.kept import kept
from bench.quality.picture_files import batches, list_pictures
from bench.quality.precision_recall import precision_recall
from bench.quality.similarity import clip_score
from sidestep.errors import InvalidData

Features = NDArray[np.float32]


class Sees(Protocol):
    """What maps pictures uint8 [B, H, W, 3] to features [B, D]; `identity` names it for caches."""

    identity: str

    def see(self, pictures: NDArray[np.uint8]) -> Features:
        """Map a batch of pictures."""
        ...


class Reads(Sees, Protocol):
    """What maps texts into the same space too."""

    def read(self, texts: Sequence[str]) -> Features:
        """Map texts to [B, D]."""
        ...


@dataclass(frozen=True)
class PaperScores:
    """FID and the like of `pictures` pictures, of which each has one caption."""

    pictures: int
    fid: float
    precision: float
    recall: float
    clip: float
    hps: float | None = None


def check_prepared(reference: Path) -> list[str]:
    """Return the captions of a prepared COCO folder; raises InvalidData naming what is missing."""
    for name in (PREPARED, TEXTS, PICTURES):
        if not (reference / name).exists():
            raise InvalidData(
                f"{reference / name} is missing; run: sidestep data coco --captions "
                f"captions_val2014.json --images val2014 --out {reference}"
            )
    return (reference / TEXTS).read_text(encoding="utf-8").splitlines()


def score(
    pictures: Path,
    captions: Sequence[str],
    reference: Path,
    extractors: tuple[Sees, Reads],
    *,
    batch: int = 32,
) -> PaperScores:
    """Compare a folder of pictures with a folder of real ones, and with its captions.

    extractors: for the distances, and for the CLIP score. Features are kept beside each folder.
    Raises InvalidData if the captions are not one for each picture or sizes are mixed.
    """
    files = list_pictures(pictures)
    if len(files) != len(captions):
        raise InvalidData(
            f"{pictures} has {len(files):,} pictures and its captions are {len(captions):,}; each "
            "picture needs one caption, in the order of the pictures' names"
        )
    inception, clip = extractors
    generated = features_of(files, inception, batch=batch)
    real = features_of(list_pictures(reference), inception, batch=batch)
    precision, recall = precision_recall(real, generated)
    seen = features_of(files, clip, batch=batch)
    read = [clip.read(captions[start : start + batch]) for start in range(0, len(captions), batch)]
    return PaperScores(
        pictures=len(files),
        fid=frechet_distance(Statistics.of(generated), Statistics.of(real)),
        precision=precision,
        recall=recall,
        clip=clip_score(seen, np.concatenate(read)),
    )


def features_of(files: Sequence[Path], extractor: Sees, *, batch: int) -> Features:
    """Return the features [N, D] of pictures of one folder, which are kept beside it."""
    return kept(
        files, extractor.identity, lambda: np.concatenate(list(_see(files, extractor, batch)))
    )


def _see(files: Sequence[Path], extractor: Sees, batch: int) -> Iterator[Features]:
    with tqdm(total=len(files), unit="picture", desc=extractor.identity.split(":")[0]) as bar:
        for pictures in batches(files, size_px=SIZE_PX, batch=batch):
            yield extractor.see(pictures)
            bar.update(len(pictures))
