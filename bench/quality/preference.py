"""HPSv2, a stand-in for people who choose between pictures (Wu et al., 2023), by its own package.

Its weights are of others and are not shipped; the package downloads them.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from bench.quality.kept import kept
from sidestep.errors import BackendUnavailable, InvalidData

VERSION = "v2.0"  # of the weights; the paper's
NETWORK = "ViT-H-14"
KNOWN = "1.2.0"  # of the package
BATCH = 64  # pictures whose scores are kept in one file

Scores = NDArray[np.float32]


class Prefers(Protocol):
    """What scores pictures for their captions; `identity` names it for caches."""

    identity: str

    def prefer(self, files: Sequence[Path], captions: Sequence[str]) -> Scores:
        """Score B pictures [B]: larger is better."""
        ...


class HumanPreference:
    """HPSv2 with its network loaded once.

    `hpsv2.score` reads a checkpoint of gigabytes in every call. It is called for one picture, which
    leaves the network in `hpsv2.img_score.model_dict`; that scores all others.
    """

    def __init__(self) -> None:
        """Load the network where hpsv2 chooses, downloaded once, and see that it scores as hpsv2.

        Raises BackendUnavailable where hpsv2 is not installed, and InvalidData where its weights
        cannot be had, or where it is another version that works otherwise.
        """
        self._package = load_hpsv2()
        probe = Image.linear_gradient("L").convert("RGB")
        try:
            expected = float(self._package.score(probe, "grey", hps_version=VERSION)[0])
        except (OSError, RuntimeError, EOFError) as error:
            raise InvalidData(
                f"hpsv2 cannot load its weights ({error}); bring xswu/HPSv2 and what {NETWORK} "
                "needs into Hugging Face's cache, or leave --hps out"
            ) from error
        try:
            found = float(self._score([probe], ["grey"])[0])
        except (AttributeError, KeyError, TypeError) as error:
            raise _unlike_known(repr(error)) from error
        if abs(found - expected) > 1e-3:
            raise _unlike_known(f"its network gives {found:.4f} where it says {expected:.4f}")
        self.identity = f"hpsv2:{VERSION}:{metadata.version('hpsv2')}"

    def prefer(self, files: Sequence[Path], captions: Sequence[str]) -> Scores:
        """Score B pictures [B] by the cosine with their captions."""
        pictures = []
        for file in files:
            with Image.open(file) as image:
                pictures.append(image.convert("RGB"))
        return self._score(pictures, captions)

    @torch.inference_mode()
    def _score(self, pictures: Sequence[Image.Image], captions: Sequence[str]) -> Scores:
        package, device = self._package, self._package.device
        prepare, network = (package.model_dict[key] for key in ("preprocess_val", "model"))
        rows = torch.stack([prepare(picture) for picture in pictures]).to(device)
        words = package.get_tokenizer(NETWORK)(list(captions)).to(device)
        with torch.autocast("cuda", enabled=str(device).startswith("cuda")):  # as hpsv2 does
            told = network(rows, words)
            cosines = (told["image_features"] * told["text_features"]).sum(dim=1)
        scores: Scores = cosines.float().cpu().numpy()
        return scores


def mean_preference(
    prefers: Prefers, files: Sequence[Path], captions: Sequence[str], *, batch: int = BATCH
) -> float:
    """Mean score of pictures of one folder for their captions, in hundredths, as published.

    Scores are kept beside the folder, a file for every `batch` of them: a stopped run goes on.
    """
    parts: list[Scores] = []
    with tqdm(total=len(files), unit="picture", desc=prefers.identity.split(":")[0]) as bar:
        for start in range(0, len(files), batch):
            some, said = files[start : start + batch], list(captions[start : start + batch])
            told = hashlib.sha256(json.dumps(said).encode()).hexdigest()
            identity = f"{prefers.identity}:{told}"
            parts.append(kept(some, identity, partial(prefers.prefer, some, said)))
            bar.update(len(some))
    return 100 * float(np.concatenate(parts).mean(dtype=np.float64))


def load_hpsv2() -> Any:
    """Import what of hpsv2 scores pictures.

    Raises BackendUnavailable where it or what it needs is not installed, and InvalidData for the
    file of words that its wheel lacks.
    """
    try:
        with warnings.catch_warnings():  # which it also turns off for all others
            warnings.simplefilter("ignore")
            from hpsv2 import img_score
    except ImportError as error:
        raise BackendUnavailable((error.name or "hpsv2").split(".")[0]) from error
    except FileNotFoundError as error:
        name = Path(str(error.filename)).name
        raise InvalidData(
            f"hpsv2 was installed without {error.filename}; copy "
            f"{Path(open_clip.__file__).parent / name} there"
        ) from error
    return img_score


def _unlike_known(what: str) -> InvalidData:
    return InvalidData(
        f"hpsv2 {metadata.version('hpsv2')} works otherwise than hpsv2 {KNOWN} ({what}); run: pip "
        f"install --no-deps hpsv2=={KNOWN}"
    )
