"""What this service draws, and for whom: settings that apply to every route alike."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serve.callers import current
from serve.denied import DenyList
from serve.errors import PolicyViolation
from serve.rates import Rates
from serve.settings import Settings
from sidestep.errors import InvalidRequest
from sidestep.requests import GenerateRequest

# Pixels [H, W, 3] -> why the picture may not be shown, or None.
Safety = Callable[[NDArray[np.uint8]], str | None]


class Policy:
    """Rates, denied prompts and denied pictures."""

    def __init__(self, settings: Settings) -> None:
        """Read the deny-list and find the hook; raises InvalidRequest if either cannot be."""
        self._per_key = Rates(settings.rate_per_key, "API key")
        self._per_address = Rates(settings.rate_per_address, "address")
        self._denied = DenyList(Path(settings.deny_list)) if settings.deny_list else None
        self._safety = find_safety(settings.safety) if settings.safety else None
        self._log_prompts = settings.log_prompts

    def admit(
        self, request: GenerateRequest, model: str, address: str
    ) -> tuple[GenerateRequest, str]:
        """Check a request; returns it with whose turn it takes.

        The clients of one key are its own: those of another with the same name are others.
        """
        caller = current()
        address = address or caller.address
        caller.told.update(model=model, pictures=request.count)
        if self._log_prompts:
            caller.told["prompt"] = request.prompt
        if self._denied:
            self._denied.check(request.prompt)
        self._per_address.take(address, request.count)
        if caller.key is None:
            return request, address
        self._per_key.take(caller.key.id, request.count)
        if request.client_id:
            client = f"{caller.key.id} {request.client_id}"
            request = request.model_copy(update={"client_id": client})
        return request, caller.key.id

    def check_picture(self, pixels: NDArray[np.uint8]) -> None:
        """Raise PolicyViolation if the hook does not let the pixels [H, W, 3] pass."""
        if self._safety and (reason := self._safety(pixels)):
            raise PolicyViolation(f"a picture may not be shown here: {reason}", field="prompt")


def find_safety(name: str) -> Safety:
    """Import the hook MODULE:FUNCTION; raises InvalidRequest if there is none."""
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        message = f"safety: {name} is no MODULE:FUNCTION that can be imported ({error})"
        raise InvalidRequest(message, field="safety") from None
    if not callable(found):
        raise InvalidRequest(f"safety: {name} cannot be called", field="safety")
    checked: Safety = found
    return checked
