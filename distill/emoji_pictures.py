"""The training pictures of the embedded model and their captions: plain, recoloured, in pairs.

Everything is a function of the bundle and the seed. Held-out things are left out here, so that
neither autoencoder nor teacher nor student ever sees them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from distill.draws import generator
from distill.emoji_bundle import Bundle, Icons
from distill.emoji_sources import caption
from distill.emoji_words import COLOURS, in_style, pair_captions
from distill.held_out import HeldOut
from distill.recolour import dominant_hue, may_become, recolour

COLUMNS = 8  # captions of a picture, of which a step draws one
BATCH = 128
# What goes well with anything; half of all pairs have one of these.
PARTNERS = (
    "red-heart",
    "blue-heart",
    "green-heart",
    "star",
    "crown",
    "top-hat",
    "balloon",
    "sunflower",
    "red-apple",
    "umbrella",
    "wrapped-gift",
    "guitar",
    "soccer-ball",
    "key",
    "crescent-moon",
    "pizza",
)


@dataclass(frozen=True)
class TrainingPictures:
    """uint8 [N, H, W, 3] on white, on a device, with `COLUMNS` captions each.

    groups: how many pictures are plain, recoloured and pairs, in this order
    held_out: plain pictures of held-out names, uint8 [M, H, W, 3]
    """

    pictures: Tensor
    captions: list[list[str]]
    groups: tuple[int, int, int]
    held_out: Tensor


@dataclass(frozen=True)
class Amounts:
    """How many pictures are made: colours of each icon that can have them, pairs of each style."""

    colours: int = 3
    pairs: int = 1500


class _Page:
    """The pictures of one training set as they are collected."""

    def __init__(self, bundle: Bundle, held: HeldOut, device: str) -> None:
        self.words, self.held, self.device = bundle.words, held, device
        self.pictures: list[Tensor] = []
        self.captions: list[list[str]] = []

    def texts(self, ways: Sequence[str], style: str) -> list[str]:
        """Return the captions of ways to say something, without those that are held out."""
        allowed = [way for way in ways if self.held.allows(way)]
        return (
            in_style(allowed, style, columns=COLUMNS) if allowed and allowed[0] == ways[0] else []
        )

    def add(self, rgba: Tensor, captions: list[list[str]]) -> None:
        """Put pictures [B, 4, H, W] on white beside their captions, leaving out the nameless."""
        keep = [row for row, texts in enumerate(captions) if texts]
        if keep:
            self.pictures.append(on_white(rgba[keep]))
            self.captions += [captions[row] for row in keep]


def make_pictures(
    bundle: Bundle, held: HeldOut, amounts: Amounts, *, seed: int = 0, device: str = "cpu"
) -> TrainingPictures:
    """Make the whole training set on a device."""
    page = _Page(bundle, held, device)
    counts: list[int] = []
    for kind in (_plain, _recoloured, _pairs):
        for icons in bundle.icons:
            kind(page, icons, torch.from_numpy(icons.pictures).to(device), (amounts, seed))
        counts.append(len(page.captions) - sum(counts))
    unseen = [
        on_white(_unit(torch.from_numpy(icons.pictures[rows]).to(device)))
        for icons in bundle.icons
        if (rows := [row for row, name in enumerate(icons.names) if name in held.names])
    ]
    empty = torch.zeros(0, *page.pictures[0].shape[1:], dtype=torch.uint8, device=device)
    plain, coloured, pairs = counts
    return TrainingPictures(
        torch.cat(page.pictures),
        page.captions,
        (plain, coloured, pairs),
        torch.cat([empty, *unseen]),
    )


def on_white(rgba: Tensor) -> Tensor:
    """Float [B, 4, H, W] in [0, 1] -> uint8 [B, H, W, 3]."""
    opacity = rgba[:, 3:]
    page = rgba[:, :3] * opacity + (1 - opacity)
    return (page * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def colourable(
    names: Sequence[str], pictures: NDArray[np.uint8]
) -> list[tuple[int, float, list[str]]]:
    """List the icons with a dominant hue: row, hue, and the colours that they may take.

    On the CPU, where sums do not depend on the order in which threads come: another run must make
    the same pictures in the same order.
    pictures: uint8 [N, H, W, 4]
    """
    rgba = torch.from_numpy(pictures)
    found = []
    for start in range(0, len(names), BATCH):
        hues, clear = dominant_hue(_unit(rgba[start : start + BATCH, ::4, ::4]))
        for row, hue in enumerate(hues.tolist()):
            if clear[row]:
                colours = [colour for colour in COLOURS if may_become(hue, colour)]
                found.append((start + row, hue, colours))
    return found


def coloured_captions(bundle: Bundle, *, styles: int) -> list[str]:
    """List what recolouring can make of the icons that all styles have, in `styles` at least."""
    shared = set.intersection(*(set(icons.names) for icons in bundle.icons))
    found: Counter[str] = Counter()
    for icons in bundle.icons:
        for row, _, colours in colourable(icons.names, icons.pictures):
            if icons.names[row] in shared:
                ways = (bundle.words.coloured(icons.names[row], colour) for colour in colours)
                found.update({way[0] for way in ways if way})
    return sorted(text for text, count in found.items() if count >= styles)


def beside(first: Tensor, second: Tensor, *, overlaid: bool) -> Tensor:
    """Put the second icon over the first's corner, or right of it: [B, 4, H, W] -> the same."""
    size = first.shape[-1]
    page = torch.zeros_like(first)
    if overlaid:
        large, small = round(size * 0.86), round(size * 0.48)
        _put(page, first, large, (0, 0))
        _put(page, second, small, (size - small, size - small))
    else:
        half = size // 2
        _put(page, first, half, ((size - half) // 2, 0))
        _put(page, second, half, ((size - half) // 2, half))
    return page


def _put(page: Tensor, icon: Tensor, size: int, corner: tuple[int, int]) -> None:
    """Draw an icon onto `page` [B, 4, H, W] at (top, left), `size` pixels wide."""
    premultiplied = torch.cat([icon[:, :3] * icon[:, 3:], icon[:, 3:]], dim=1)
    over = F.interpolate(
        premultiplied, (size, size), mode="bilinear", antialias=True, align_corners=False
    )
    part = page[..., corner[0] : corner[0] + size, corner[1] : corner[1] + size]
    below = torch.cat([part[:, :3] * part[:, 3:], part[:, 3:]], dim=1)
    mixed = over + below * (1 - over[:, 3:])
    opacity = mixed[:, 3:]
    part.copy_(torch.cat([mixed[:, :3] / opacity.clamp(min=1e-4), opacity], dim=1).clamp(0, 1))


def _unit(rgba: Tensor) -> Tensor:
    """uint8 [B, H, W, 4] -> float [B, 4, H, W] in [0, 1]."""
    return rgba.permute(0, 3, 1, 2).float() / 255


_Plan = tuple[Amounts, int]


def _plain(page: _Page, icons: Icons, rgba: Tensor, plan: _Plan) -> None:
    style, names = icons.style, icons.names
    captions = [
        [] if name in page.held.names else page.texts(page.words.ways(name), style)
        for name in names
    ]
    for start in range(0, len(names), BATCH):
        part = slice(start, start + BATCH)
        page.add(_unit(rgba[part]), captions[part])


def _recoloured(page: _Page, icons: Icons, rgba: Tensor, plan: _Plan) -> None:
    (amounts, seed), style, names = plan, icons.style, icons.names
    real = {caption(name) for name in page.words.names}
    jobs: list[tuple[int, float, str]] = []
    for row, hue, colours in colourable(names, icons.pictures):
        if names[row] in page.held.names:
            continue
        new = [c for c in colours if not real.intersection(page.words.coloured(names[row], c)[:1])]
        order = torch.randperm(len(new), generator=generator(seed, "colours", style, names[row]))
        jobs += [(row, hue, new[index]) for index in order[: amounts.colours].tolist()]
    for start in range(0, len(jobs), BATCH):
        part = jobs[start : start + BATCH]
        hues = torch.tensor([hue for _, hue, _ in part], device=rgba.device)
        drawn = recolour(_unit(rgba[[row for row, _, _ in part]]), hues, [c for _, _, c in part])
        ways = [page.words.coloured(names[row], colour) for row, _, colour in part]
        page.add(drawn, [page.texts(way, style) if way else [] for way in ways])


def _pairs(page: _Page, icons: Icons, rgba: Tensor, plan: _Plan) -> None:
    (amounts, seed), style, names = plan, icons.style, icons.names
    draw = generator(seed, "pairs", style)
    free = [row for row, name in enumerate(names) if name not in page.held.names]
    partners = [row for row in free if names[row] in PARTNERS] or free
    firsts = _pick(free, amounts.pairs, draw)
    seconds = np.where(
        torch.rand(amounts.pairs, generator=draw).numpy() < 0.5,
        _pick(partners, amounts.pairs, draw),
        _pick(free, amounts.pairs, draw),
    )
    jobs = [(a, b) for a, b in zip(firsts.tolist(), seconds.tolist(), strict=True) if a != b]
    for start in range(0, len(jobs), BATCH):
        for overlaid in (True, False):
            part = [job for job in jobs[start : start + BATCH] if (sum(job) % 3 > 0) == overlaid]
            if not part:
                continue
            left, right = (_unit(rgba[list(side)]) for side in zip(*part, strict=True))
            captions = [
                page.texts(_pair_ways(page, names[a], names[b], overlaid), style) for a, b in part
            ]
            page.add(beside(left, right, overlaid=overlaid), captions)


def _pair_ways(page: _Page, first: str, second: str, overlaid: bool) -> list[str]:
    """Say a pair in up to three ways: by the names, then by short synonyms."""
    a, b = (
        [name, *(way for way in synonyms[:2] if len(way) < 20)]
        for name, *synonyms in map(page.words.ways, (first, second))
    )
    count = max(len(a), len(b))
    which = 0 if overlaid else 1
    return [pair_captions(a[i % len(a)], b[i % len(b)])[which] for i in range(count)]


def _pick(rows: Sequence[int], count: int, draw: torch.Generator) -> NDArray[np.int64]:
    picked: NDArray[np.int64] = np.asarray(rows)[
        torch.randint(len(rows), (count,), generator=draw).numpy()
    ]
    return picked
