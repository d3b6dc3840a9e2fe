"""Models whose folders change are opened anew."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from sidestep.errors import SidestepError
from sidestep.model_folder import ModelFolder

if TYPE_CHECKING:
    from serve.models import Models

logger = logging.getLogger("sidestep.serve")


async def watch(models: Models, every_s: float) -> None:
    """Look at the cards of all models for ever; a card lists the hashes of the model's files.

    A folder that is damaged, or half copied, is tried again at the next look, and told of once.
    """
    told: dict[str, str] = {}
    while True:
        await asyncio.sleep(every_s)
        for generator in models.generators:
            source = generator.source
            if source is None:
                continue
            try:
                if await asyncio.to_thread(_now, source) != source:
                    await models.reload(generator.name)
                told.pop(generator.name, None)
            except SidestepError as error:
                if told.get(generator.name) != str(error):
                    logger.error("%s goes on as it was: %s", generator.name, error)
                told[generator.name] = str(error)
            except Exception:
                logger.exception("%s goes on as it was", generator.name)


def _now(source: ModelFolder) -> ModelFolder:
    return ModelFolder.open(source.path).with_decoder(source.decoder)
