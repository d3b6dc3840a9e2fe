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
from sidestep.errors import InvalidRequest, ServiceBusy, Unauthorized
from sidestep.requests import GenerateRequest

# Pixels [H, W, 3] -> why the picture may not be shown, or None.
Safety = Callable[[NDArray[np.uint8]], str | None]


class Policy:
    """Rates, denied prompts and denied pictures."""

    def __init__(self, settings: Settings) -> None:
        """Read the deny-list and find the hook; raises InvalidRequest if either cannot be."""
        self._needs_key = bool(settings.keys)
        self._per_key = Rates(settings.rate_per_key, "API key")
        self._per_address = Rates(settings.rate_per_address, "address")
        self._denied = DenyList(Path(settings.deny_list)) if settings.deny_list else None
        self._safety = find_safety(settings.safety) if settings.safety else None
        self._log_prompts = settings.log_prompts

    def admit(
        self, request: GenerateRequest, model: str, address: str
    ) -> tuple[GenerateRequest, str]:
        """Check a request, and charge for it; returns it with whose turn it takes.

        The clients of one key are its own: those of another with the same name are others. Raises
        Unauthorized where keys are needed and whatever asks has passed no guard.
        """
        caller = current()
        if self._needs_key and caller.key is None:
            raise Unauthorized("an API key is needed")
        address = address or caller.address
        caller.told.update(model=model, pictures=request.count)
        if self._log_prompts:
            caller.told["prompt"] = request.prompt
        if self._denied:
            self._denied.check(request.prompt)
        self._charge(address, request.count)
        if caller.key is None:
            return request, address
        if request.client_id:
            client = f"{caller.key.id} {request.client_id}"
            request = request.model_copy(update={"client_id": client})
        return request, caller.key.id

    def _charge(self, address: str, count: int) -> None:
        """Take pictures from the key's rate and the address's, or from neither."""
        key = current().key
        if key is not None:
            self._per_key.take(key.id, count)
        try:
            self._per_address.take(address, count)
        except ServiceBusy:
            if key is not None:
                self._per_key.give_back(key.id, count)
            raise

    def give_back(self, count: int, address: str) -> None:
        """Take back the charge of the current caller's pictures, which were refused later."""
        caller = current()
        if caller.key is not None:
            self._per_key.give_back(caller.key.id, count)
        self._per_address.give_back(address or caller.address, count)

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
