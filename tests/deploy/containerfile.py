"""Read a Containerfile, as far as ours goes: comments, continued lines, exec form, flags, ARG."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

_VARIABLE = re.compile(r"\$\{(\w+)\}")


@dataclass(frozen=True)
class Instruction:
    """One line: its word, its --flags and what follows, exec form already split."""

    word: str
    text: str
    flags: dict[str, str] = field(default_factory=dict)
    exec_form: bool = False

    @property
    def parts(self) -> list[str]:
        return list(json.loads(self.text)) if self.exec_form else self.text.split()

    def pairs(self) -> dict[str, str]:
        """Read KEY=VALUE of ENV and LABEL; values may be quoted."""
        found = re.findall(r'([\w.]+)=("[^"]*"|\S+)', self.text)
        return {name: value.strip('"') for name, value in found}


@dataclass
class Stage:
    """What one FROM begins."""

    name: str
    source: str
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, word: str) -> list[Instruction]:
        return [one for one in self.instructions if one.word == word]

    def last(self, word: str) -> Instruction:
        return self.all(word)[-1]


def read(path: Path, **arguments: str) -> dict[str, Stage]:
    """Read all stages by name, with each ARG replaced by `arguments` or its default."""
    values = dict(arguments)
    stages: dict[str, Stage] = {}
    for line in _lines(path.read_text("utf-8")):
        one = _instruction(_VARIABLE.sub(lambda m: values.get(m[1], m[0]), line))
        if one.word == "ARG":
            name, _, default = one.text.partition("=")
            values.setdefault(name, default)
        elif one.word == "FROM":
            source, _, name = (part.strip() for part in one.text.partition(" AS "))
            stages[name] = Stage(name, source)
        else:
            list(stages.values())[-1].instructions.append(one)
    return stages


def _lines(text: str) -> list[str]:
    kept = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [re.sub(r"\s+", " ", line) for line in "\n".join(kept).replace("\\\n", " ").splitlines()]


def _instruction(line: str) -> Instruction:
    word, _, rest = line.strip().partition(" ")
    flags = {}
    while match := re.match(r"--([\w-]+)=(\S+) ", rest):
        flags[match[1]] = match[2]
        rest = rest[match.end() :]
    if word == "HEALTHCHECK":  # its own CMD follows
        rest = rest.removeprefix("CMD ")
    return Instruction(word, rest, flags, rest.startswith("["))
