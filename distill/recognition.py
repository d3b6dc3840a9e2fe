"""How many drawn pictures are recognised: an objective, if simple-minded, beholder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from distill.emoji_data import EmojiSet
from distill.emoji_sources import caption

_SIDE = 16  # pixels per side that the beholder sees; subject and colours remain, texture does not


def recognised(
    drawn: NDArray[np.uint8], captions: Sequence[str], sets: Sequence[EmojiSet]
) -> list[bool]:
    """Tell of each picture whether the real picture nearest to it, of all, bears its caption.

    drawn: uint8 [B, H, W, 3], one per caption. Distances are root mean squares of pictures shrunk
    to 16 x 16. A blur is near to many pictures and a wrong colour is far from the right one, so
    both count against a model.
    """
    real = _seen(np.concatenate([part.pictures for part in sets]))  # [N, D]
    bear = [caption(name) for part in sets for name in part.names]
    nearest = [int(np.square(real - one).sum(axis=1).argmin()) for one in _seen(drawn)]
    return [bear[index] == wanted for index, wanted in zip(nearest, captions, strict=True)]


def _seen(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Shrink by averaging: [B, H, W, 3] -> [B, 16 * 16 * 3]."""
    shrunk = [Image.fromarray(p).resize((_SIDE, _SIDE), Image.Resampling.BOX) for p in pictures]
    return np.stack([np.asarray(picture, np.float32).ravel() for picture in shrunk])
