"""The same generator behind BentoML's own batching, to compare with.

Its settings are the ones that serve it best: a long `max_latency_ms`, because what it predicts to
be later is dropped, and a session to itself that is not renewed every 100 requests, because the
requests in flight then fail.
"""

from __future__ import annotations

import argparse
import base64
import os
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

import bentoml
from bentoml.validators import ContentType
from pydantic import BaseModel

from sidestep.generator import Generator


class Asked(BaseModel):
    """One picture."""

    prompt: str
    seed: int


@bentoml.service(
    name="bentoml-batching",
    workers=1,
    threads=4,
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": "."},
    traffic={"timeout": 600},
    runner_connection={"max_requests": 10**9, "max_age": 1e9},
)
class Batching:
    """Draws pictures in the batches that BentoML makes."""

    def __init__(self) -> None:
        """Load the model that `sidestep serve` would load."""
        self.generator = Generator.load(engine=os.environ.get("SIDESTEP_ENGINE", "auto"))

    @bentoml.api(batchable=True, max_batch_size=8, max_latency_ms=600_000)
    def draw(self, asked: list[Asked]) -> list[str]:
        """Draw a batch; as base64, because what comes back from a batch is JSON."""
        prompts, seeds = [one.prompt for one in asked], [one.seed for one in asked]
        pictures = self.generator.draw(prompts, seeds)
        return [base64.b64encode(picture.data).decode() for picture in pictures]

    @bentoml.api(route="/generate")
    async def generate(self, prompt: str, seed: int) -> Annotated[bytes, ContentType("image/png")]:
        """Draw one picture, in a batch with others."""
        itself: Any = self  # BentoML adds `to_async`, which goes through its batcher
        (data,) = await itself.to_async.draw([Asked(prompt=prompt, seed=seed)])
        return base64.b64decode(data)


def main() -> None:
    """Serve on a port of this machine with BentoML's own command."""
    from bentoml_cli.cli import cli

    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--engine", default="fake")
    options = parser.parse_args()
    os.environ["SIDESTEP_ENGINE"] = options.engine  # the worker is another process
    root = str(Path(__file__).resolve().parent.parent)
    where = ["--working-dir", root, "--host", "127.0.0.1", "--port", str(options.port)]
    cli(["serve", "bench.bentoml_batching:Batching", *where, "--quiet"], standalone_mode=False)


if __name__ == "__main__":
    main()
