"""What the service can be told, each option with its help, default and bounds once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

from sidestep.engines.load import ENGINES
from sidestep.errors import InvalidRequest
from sidestep.model_folder import DECODERS, named_folder
from sidestep.requests import MAX_COUNT, MAX_DEADLINE_MS

PREFIX = "SIDESTEP_"
SEPARATOR = ","
_TRUTHS = dict.fromkeys(("true", "1", "yes", "on"), True) | dict.fromkeys(
    ("false", "0", "no", "off"), False
)


@dataclass(frozen=True)
class Settings:
    """Options of the service; `queue_limit` is SIDESTEP_QUEUE_LIMIT and --queue-limit."""

    model: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "Model folder, NAME=FOLDER, or an embedded model's name; emoji if absent. "
            "Requests choose one of several (more flags, or commas in the variable) by name, else "
            "the first draws.",
        },
    )
    engine: str = field(
        default="auto",
        metadata={
            "help": "What runs the model; auto takes the fastest that works, fake needs no weights "
            "and takes 20 + 2n ms for n pictures.",
            "choices": ENGINES,
        },
    )
    decoder: str = field(
        default="full",
        metadata={
            "help": "small: the lighter decoder that `sidestep distill-decoder` gave the model.",
            "choices": DECODERS,
        },
    )
    devices: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "Numbers of the GPUs to draw on (more flags, or commas in the variable), a "
            "thread for each; the first alone if absent."
        },
    )
    host: str = field(default="127.0.0.1", metadata={"help": "Address to listen on."})
    port: int = field(default=3000, metadata={"help": "Port to listen on.", "bounds": (1, 65_535)})
    queue_limit: int = field(
        default=256,
        metadata={
            "help": "Pictures that may wait; a request without room is refused (429).",
            "bounds": (MAX_COUNT, 100_000),
        },
    )
    deadline_ms: int = field(
        default=10_000,
        metadata={
            "help": "Deadline of a request that states none; what would be later is refused (429).",
            "bounds": (1, MAX_DEADLINE_MS),
        },
    )
    body_limit: int = field(
        default=64 * 1024,
        metadata={
            "help": "Bytes of a request's body; a larger one is refused (413) and not read. "
            "Under /ui/ 2 MiB, if that is more.",
            "bounds": (1_024, 16 * 1024 * 1024),
        },
    )
    header_limit: int = field(
        default=16 * 1024,
        metadata={
            "help": "Bytes of a request's headers; larger ones are refused (431).",
            "bounds": (1_024, 64 * 1024),
        },
    )
    receive_s: int = field(
        default=10,
        metadata={
            "help": "Seconds for a request's headers, and as many for its body, to arrive (408).",
            "bounds": (1, 3_600),
        },
    )
    keys: str | None = field(
        default=None,
        metadata={
            "help": "File of API keys, made by `sidestep keys add`; with it each request needs one."
        },
    )
    rate_per_key: int = field(
        default=0,
        metadata={
            "help": "Pictures a minute for each API key, more are refused (429); 0 for no limit.",
            "bounds": (0, 1_000_000),
        },
    )
    rate_per_address: int = field(
        default=0,
        metadata={
            "help": "Pictures a minute for each address, more are refused (429); 0 for no limit.",
            "bounds": (0, 1_000_000),
        },
    )
    deny_list: str | None = field(
        default=None,
        metadata={
            "help": "File of phrases that no prompt may have, a line each: RULE: PHRASE (422)."
        },
    )
    safety: str | None = field(
        default=None,
        metadata={
            "help": "MODULE:FUNCTION that is called with each picture's pixels and returns why it "
            "may not be shown, or None."
        },
    )
    watch_s: int = field(
        default=0,
        metadata={
            "help": "Seconds between looks at the models' cards; a changed model is opened anew. "
            "0 never looks.",
            "bounds": (0, 86_400),
        },
    )
    access_log: str | None = field(
        default=None,
        metadata={"help": "File for a line of JSON for each request; - is the standard output."},
    )
    log_prompts: bool = field(
        default=False, metadata={"help": "Write prompts into the access log."}
    )
    traces: str | None = field(
        default=None,
        metadata={
            "help": "Address that takes OpenTelemetry's spans, such as "
            "http://localhost:4318/v1/traces; none are made if absent."
        },
    )
    trace_percent: int = field(
        default=100,
        metadata={"help": "Requests of 100 that are traced.", "bounds": (1, 100)},
    )
    cors_origins: str = field(
        default="",
        metadata={
            "help": "Origins whose pages may call from a browser, separated by commas; * for all."
        },
    )
    hang_s: int = field(
        default=30,
        metadata={
            "help": "Seconds after which an engine call is given up, if it was measured to take "
            "less than a twentieth of that (503).",
            "bounds": (1, 3_600),
        },
    )
    recipe: bool = field(
        default=True, metadata={"help": "Write into each picture what it was drawn from."}
    )
    grace_s: int = field(
        default=15,
        metadata={
            "help": "Seconds to finish what was accepted, when the service is told to stop.",
            "bounds": (1, 3_600),
        },
    )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read the SIDESTEP_* variables; raises InvalidRequest naming the variable."""
        values: dict[str, Any] = {
            option.name: _value(option, environment[variable(option.name)])
            for option in fields(cls)
            if environment.get(variable(option.name))
        }
        return cls(**values)

    def settled(self) -> Self:
        """Write paths so that a process in another folder finds them.

        Raises InvalidRequest for a path with a comma where a variable holds several.
        """
        texts = ("keys", "deny_list", "access_log")
        paths = {name: path for name in texts if (path := getattr(self, name)) not in (None, "-")}
        files: dict[str, Any] = {name: str(Path(path).absolute()) for name, path in paths.items()}
        models = tuple(_absolute(text) for text in self.model)
        for text in models:
            if SEPARATOR in text:
                message = f"model {text!r} has a comma, which separates models; rename the folder"
                raise InvalidRequest(message, field="model")
        return replace(self, model=models, **files)

    def to_environment(self) -> dict[str, str]:
        """Write the variables that make a worker's settings equal to these."""
        values = {option.name: getattr(self, option.name) for option in fields(self)}
        return {
            variable(name): SEPARATOR.join(value) if isinstance(value, tuple) else str(value)
            for name, value in values.items()
            if value is not None
        }


def _absolute(text: str) -> str:
    """Write a model's folder, and its name if it has one, with the whole path."""
    name, folder = named_folder(text)
    return f"{name}={folder.absolute()}" if name else str(folder.absolute())


def split(text: str) -> tuple[str, ...]:
    """Read a list out of one text."""
    return tuple(part.strip() for part in text.split(SEPARATOR) if part.strip())


def variable(option: str) -> str:
    """Name the environment variable of an option."""
    return PREFIX + option.upper()


def _value(option: Field[Any], text: str) -> str | int | bool | tuple[str, ...]:
    value: str | int | bool | None = text
    wanted = ""
    if isinstance(option.default, tuple):
        return split(text)
    if "bounds" in option.metadata:
        low, high = option.metadata["bounds"]
        wanted = f"a whole number from {low:,} to {high:,}"
        value = _whole_number(text, low, high)
    elif "choices" in option.metadata:
        wanted = f"one of {', '.join(option.metadata['choices'])}"
        value = text if text in option.metadata["choices"] else None
    elif isinstance(option.default, bool):
        wanted = "true or false"
        value = _TRUTHS.get(text.lower())
    if value is None:
        name = variable(option.name)
        raise InvalidRequest(f"{name} must be {wanted}, not {text!r}", field=name)
    return value


def _whole_number(text: str, low: int, high: int) -> int | None:
    try:
        number = int(text)
    except ValueError:
        return None
    return number if low <= number <= high else None
