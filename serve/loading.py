"""Settings -> the generators that they name."""

from __future__ import annotations

from serve.settings import Settings
from sidestep.errors import InvalidRequest
from sidestep.generator import Generator
from sidestep.model_folder import named_folder


def load_generators(settings: Settings) -> list[Generator]:
    """Open every model, the embedded one if none is named.

    Raises InvalidModel for a damaged one, and InvalidRequest where two have one name.
    """
    if not settings.model:
        return [Generator.load(engine=settings.engine, decoder=settings.decoder)]
    generators: dict[str, Generator] = {}
    for text in settings.model:
        name, folder = named_folder(text)
        generator = Generator.load(
            folder, engine=settings.engine, decoder=settings.decoder, name=name
        )
        if generator.name in generators:
            message = f"two models are named {generator.name!r}; name one: --model NAME=FOLDER"
            raise InvalidRequest(message, field="model")
        generators[generator.name] = generator
    return list(generators.values())
