"""The paper's Tables 1, 2 and 3 (SiD-LSG, ICLR 2025), to stand beside what is measured here.

COCO-2014 val, zero-shot, 30,000 captions. Of Table 1 only the rows of SiD-LSG: those of one preset
stand with it in `distill.presets`.
"""

from __future__ import annotations

from dataclasses import dataclass

from distill.presets import PRESETS


@dataclass(frozen=True)
class Row:
    """A published row: the strategy, its κ1…κ4, and what was measured where it was.

    hps: HPSv2 of anime, photo, concept art and paintings
    """

    strategy: str
    kappas: tuple[float, float, float, float]
    fid: float | None = None
    clip: float | None = None
    hps: tuple[float, float, float, float] | None = None
    precision: float | None = None
    recall: float | None = None

    @property
    def label(self) -> str:
        """Name the row."""
        first = self.kappas[0]
        if len(set(self.kappas)) == 1:
            return f"{self.strategy}, κ = {first:g}"
        return f"{self.strategy}, κ1…κ4 = " + ", ".join(f"{kappa:g}" for kappa in self.kappas)


_TABLE_2 = {
    "sd15": {
        1.5: ((26.58, 26.80, 26.02, 26.02), 0.59, 0.52),
        2.0: ((26.94, 27.03, 26.35, 26.27), 0.64, 0.48),
        3.0: ((27.10, 27.11, 26.47, 26.46), 0.65, 0.40),
        4.5: ((27.39, 27.30, 26.65, 26.58), 0.67, 0.34),
    },
    "sd21-base": {
        1.5: ((26.65, 26.87, 26.19, 26.14), 0.60, 0.49),
        2.0: ((26.90, 27.08, 26.43, 26.47), 0.62, 0.44),
        3.0: ((27.27, 27.22, 26.75, 26.72), 0.64, 0.38),
        4.5: ((27.42, 27.31, 26.81, 26.79), 0.63, 0.34),
    },
}

# Best FID with fewer than 2.56M images on Stable Diffusion 1.5, and its CLIP score.
TABLE_3 = (
    Row("long", (1, 1, 1, 2), 10.01, 0.297),
    Row("long", (1, 1, 1, 2.5), 10.98, 0.303),
    Row("long", (1, 1, 1, 3), 11.75, 0.303),
    Row("long", (1, 1, 1, 3.5), 12.82, 0.304),
    Row("long", (1, 1, 1, 7.5), 15.78, 0.308),
    Row("none", (1, 1, 1, 1), 15.49, 0.269),
    Row("short", (1, 0.5, 0.5, 1), 11.09, 0.299),
    Row("short", (1, 0.125, 0.125, 1), 15.54, 0.305),
    Row("simplest LSG", (2, 1, 1, 1), 11.76, 0.306),
    Row("simplest LSG", (3, 1, 1, 1), 16.38, 0.304),
    Row("LSG", (1.5, 1.5, 1.5, 1.5), 10.66, 0.295),
    Row("LSG", (2, 2, 2, 2), 10.44, 0.304),
    Row("LSG", (3, 3, 3, 3), 13.88, 0.310),
    Row("LSG", (4.5, 4.5, 4.5, 4.5), 16.69, 0.310),
)


def tables_1_and_2(preset: str) -> list[Row]:
    """List the paper's results of a preset, Table 1 joined with Table 2."""
    rows = []
    for one in PRESETS[preset].published:
        hps, precision, recall = _TABLE_2[preset][one.kappa]
        kappas = (one.kappa,) * 4
        rows.append(Row("LSG", kappas, one.fid, one.clip, hps, precision, recall))
    return rows
