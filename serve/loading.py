"""Settings -> the generators that they name."""

from __future__ import annotations

from functools import partial

from serve.settings import Settings
from sidestep.errors import InvalidRequest
from sidestep.generator import Generator
from sidestep.model_folder import named_folder


def load_generators(settings: Settings) -> list[Generator]:
    """Open every model, the embedded one if none is named.

    Raises InvalidModel for a damaged one, and InvalidRequest where two have one name.
    """
    load = partial(
        Generator.load,
        engine=settings.engine,
        decoder=settings.decoder,
        devices=_numbers(settings.devices),
    )
    if not settings.model:
        return [load()]
    generators: dict[str, Generator] = {}
    for text in settings.model:
        name, folder = named_folder(text)
        generator = load(folder, name=name)
        if generator.name in generators:
            message = f"two models are named {generator.name!r}; name one: --model NAME=FOLDER"
            raise InvalidRequest(message, field="model")
        generators[generator.name] = generator
    return list(generators.values())


def _numbers(texts: tuple[str, ...]) -> tuple[int, ...]:
    """Read the numbers of GPUs; raises InvalidRequest for other texts and for one given twice."""
    numbers = [int(text) for text in texts if text.isascii() and text.isdecimal()]
    if len(numbers) < len(texts) or len(set(numbers)) < len(numbers):
        message = f"devices must be numbers of GPUs such as 0,1, not {','.join(texts)!r}"
        raise InvalidRequest(message, field="devices")
    return tuple(numbers)
