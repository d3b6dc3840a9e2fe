"""The processes of one training run, as `torchrun` starts them; without it there is one."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from distill.parts import in_parts
from sidestep.errors import InvalidTraining

BUCKET = 2**25  # gradients that are exchanged in one transfer


@dataclass(frozen=True)
class Processes:
    """This process's place among `count` that train the same weights.

    Every process draws the whole batch and works on its own rows of it, so that the number of
    processes does not change what is trained on.
    """

    rank: int = 0
    count: int = 1

    @property
    def writes(self) -> bool:
        """Whether this process writes the files and shows the progress."""
        return self.rank == 0

    def rows(self, batch: int) -> slice:
        """Return this process's rows of a batch.

        Raises InvalidTraining if the processes cannot share it evenly.
        """
        share, rest = divmod(batch, self.count)
        if rest:
            raise InvalidTraining(
                f"--batch {batch} cannot be shared evenly by {self.count} processes; "
                f"choose a multiple of {self.count}, or another number of processes "
                "(torchrun's --nproc-per-node)"
            )
        return slice(self.rank * share, (self.rank + 1) * share)

    def passes(self, batch: int, per_device: int) -> list[range]:
        """Split this process's rows into passes of `per_device`; 0 takes them at once.

        Raises InvalidTraining if they cannot be split evenly.
        """
        mine = self.rows(batch)
        rows = range(mine.start, mine.stop)
        size = per_device or len(rows)
        if len(rows) % size:
            raise InvalidTraining(
                f"--batch {batch} over {self.count} processes is {len(rows)} images each, which "
                f"--per-device-batch {size} does not divide; choose --batch a multiple of "
                f"{self.count * size}"
            )
        return [rows[start : start + size] for start in range(0, len(rows), size)]

    def average_gradients(self, weights: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its mean over the processes.

        After the backward pass and not during it: an update has several passes, of which only the
        last could overlap, and buckets that stay allocated would cost a copy of every network.
        """
        if self.count == 1:
            return
        gradients = (weight.grad for weight in weights if weight.grad is not None)
        for bucket in in_parts(gradients, BUCKET):
            self._average(bucket)

    def _average(self, gradients: list[Tensor]) -> None:
        # In fp32: a sum of fp16 gradients may overflow where their mean does not.
        flat = torch.cat([gradient.flatten() for gradient in gradients]).float()
        dist.all_reduce(flat)
        flat /= self.count
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def total(self, values: Tensor) -> Tensor:
        """Add numbers up over the processes."""
        if self.count > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def first(self, number: float) -> float:
        """Return the first process's number to all of them."""
        if self.count == 1:
            return number
        mine = number if self.rank == 0 else 0.0
        return float(self.total(torch.tensor(mine, dtype=torch.float64)))

    def any(self, here: bool) -> bool:
        """Whether something holds in one of the processes at least."""
        if self.count == 1:
            return here
        return bool(self.total(torch.tensor(float(here))) > 0)

    @contextmanager
    def everyones_threads(self) -> Iterator[None]:
        """Work with the threads of all processes on this machine, while the others wait."""
        mine = torch.get_num_threads()
        torch.set_num_threads(mine * int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
        try:
            yield
        finally:
            torch.set_num_threads(mine)

    def wait(self) -> None:
        """Wait until every process is here."""
        self.any(False)  # not a barrier, which on GPUs is NCCL's, whatever trains


def current() -> Processes:
    """Return this process's place; joins the ones that torchrun started when first called.

    They talk over gloo about tensors on CPUs, and over NCCL about those on GPUs.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Processes()
    if not dist.is_initialized():
        backend = "gloo"
        if torch.cuda.is_available():
            mine = int(os.environ["LOCAL_RANK"])
            if mine < torch.cuda.device_count():  # more may train on the CPU
                torch.cuda.set_device(mine)
            backend = "cpu:gloo,cuda:nccl"  # by default a GPU's alone, which flags are not on
        # One may train an autoencoder alone.
        dist.init_process_group(backend, timeout=timedelta(hours=24))
        if backend == "gloo":  # its threads must not outlive the interpreter, which they abort
            atexit.register(_leave)
    return Processes(dist.get_rank(), count)


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def training_device(name: str) -> torch.device:
    """Return this process's device for a name such as cpu or cuda.

    Raises InvalidTraining if it is not there.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InvalidTraining(f"--device {name} is unknown; choose cpu or cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InvalidTraining(f"--device {name}: PyTorch finds no CUDA device; choose --device cpu")
    if device.type == "cuda" and ":" not in name:
        mine, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if mine >= there:
            raise InvalidTraining(
                f"process {mine + 1} of this machine has no GPU: there are {there}; start fewer"
            )
        return torch.device("cuda", mine)
    return device
