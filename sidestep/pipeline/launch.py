"""A distillation in several processes, which PyTorch's own launcher starts."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from distill.guidance import Guidance
from distill.options import DistillOptions
from distill.settings import declared, option_of
from sidestep.errors import InvalidTraining, Stopped
from sidestep.files import write_bytes
from sidestep.model_folder import CARD, ModelFolder
from sidestep.pipeline.options import RunOptions

# In seconds. torchrun kills 30 s after a signal what has not ended, but Stable Diffusion's state
# takes an update to get to and minutes to write.
PATIENCE = {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "300"}


def distil_together(options: RunOptions, training: Path) -> ModelFolder:
    """Distil under torchrun on this machine; returns the model's folder in `training`.

    Raises Stopped where the processes were asked to stop, and InvalidTraining where they failed,
    which they have explained on stderr. SystemExit, from a handler of SIGTERM, is passed on when
    they have saved their state.
    """
    prompts = training / "prompts.txt"
    write_bytes(prompts, ("\n".join(options.prompts) + "\n").encode())
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *("--nproc-per-node", str(options.processes), "-m", "sidestep", "distill"),
        *("--teacher", str(options.teacher), "--prompts", str(prompts), "--out", str(training)),
        *("--preset", options.preset, "--name", options.preset, "--device", options.device),
        *flags_of(options.distil),
    ]
    made = training / "model"
    code, interrupted = _wait(subprocess.Popen(command, env={**PATIENCE, **os.environ}))
    if code != 0 and not interrupted:
        raise InvalidTraining(f"the {options.processes} processes ended with exit code {code}")
    if code != 0 or not (made / CARD).is_file():
        from distill.checkpoints import last_step

        raise Stopped(last_step(training), options.distil.iterations, training)
    return ModelFolder.open(made)


def flags_of(options: DistillOptions) -> list[str]:
    """Write options as the flags of `sidestep distill` that give them, whatever the preset."""
    flags: list[str] = []
    for name in declared(DistillOptions):
        value = getattr(options, name)
        if isinstance(value, bool):
            flags += [option_of(name)] * value
        elif value != "":
            flags += [option_of(name), str(value)]
    return flags + _guidance_flags(options.guidance)


def _guidance_flags(guidance: Guidance) -> list[str]:
    return [part for key, value in asdict(guidance).items() for part in (f"--{key}", str(value))]


def _wait(child: subprocess.Popen[bytes]) -> tuple[int, bool]:
    """Wait for a child to save its state; return its exit code, and whether Ctrl-C was heard.

    The child hears Ctrl-C itself, and torchrun then ends with an error, whatever its workers do.
    SIGTERM, of which a handler makes SystemExit, comes to this process alone.
    """
    interrupted = False
    while True:
        try:
            return child.wait(), interrupted
        except KeyboardInterrupt:
            interrupted = True
        except SystemExit:
            child.terminate()
            child.wait()
            raise
