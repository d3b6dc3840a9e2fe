"""A picture file -> proof that its recipe draws it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sidestep.engines.contract import LEVELS, precision_of
from sidestep.errors import InvalidRequest, VerificationFailed
from sidestep.generator import Generator
from sidestep.images import Recipe, decode, read_format, read_recipe
from sidestep.model_folder import ModelFolder
from sidestep.requests import GenerateRequest


@dataclass(frozen=True)
class Verdict:
    """How far a file's pixels are from those its recipe draws, in levels of 255.

    tolerance: what the certificates of the engines allow: of the one that drew it, by its recipe,
        and of the one that draws it again
    """

    recipe: Recipe
    largest_difference: int
    mean_difference: float
    tolerance: int


def with_its_decoder(data: bytes, folder: ModelFolder) -> ModelFolder:
    """See a folder with that one of its decoders that drew the picture file `data`.

    With its own if neither did, which `verify` then says.
    """
    recipe = read_recipe(data)
    if recipe and folder.card.small_decoder:
        small = folder.with_decoder("small")
        return small if recipe.weights == small.card.weights else folder
    return folder


def verify(data: bytes, folder: ModelFolder, generator: Generator) -> Verdict:
    """Draw a picture again from its recipe, encode it as the file is, and compare the pixels.

    PNG may differ by the certificate's tolerance at any pixel. In JPEG and WebP one level can move
    a whole coefficient, so there the tolerance is for the mean. Raises InvalidRequest for a file
    without a usable recipe or of other weights, and VerificationFailed where the pixels differ.
    """
    recipe = read_recipe(data)
    if recipe is None:
        raise InvalidRequest("the file carries no recipe, so nothing can be drawn again")
    if recipe.weights != generator.engine.spec.weights:
        raise InvalidRequest(
            f"the picture is of model {recipe.model!r} with weights {str(recipe.weights)[:12]}, "
            f"not {generator.engine.spec.weights[:12]} ({folder.path}); give its model with --model"
        )
    values = {"prompt": recipe.prompt, "seed": recipe.seed, "quality": recipe.quality}
    request = GenerateRequest.parse({**values, "format": read_format(data)})
    found, drawn = decode(data), decode(generator.generate(request)[0].data)
    if found.shape != drawn.shape:
        sizes = [f"{width}x{height}" for height, width, _ in (found.shape, drawn.shape)]
        raise VerificationFailed(f"the picture is {sizes[0]}, but its recipe draws {sizes[1]}")
    difference = np.abs(found.astype(np.int16) - drawn.astype(np.int16))
    precisions = {precision_of(name) for name in (str(recipe.engine), generator.engine.spec.name)}
    tolerance = max([folder.tolerance(), *(LEVELS[one] for one in precisions - {"fp32"})])
    verdict = Verdict(recipe, int(difference.max()), float(difference.mean()), tolerance)
    exact = request.format == "png"
    if (verdict.largest_difference if exact else verdict.mean_difference) > verdict.tolerance:
        raise VerificationFailed(
            f"the picture is not what its recipe draws: pixels differ by up to "
            f"{verdict.largest_difference}/255, {verdict.mean_difference:.2f} on average, and the "
            f"certificate allows {verdict.tolerance}"
        )
    return verdict
