"""The processes of one training run, as `torchrun` starts them; without it there is one."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn

from sidestep.errors import InvalidTraining


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
                f"choose a multiple of {self.count}"
            )
        return slice(self.rank * share, (self.rank + 1) * share)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its mean over the processes, in one transfer."""
        if self.count == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.count
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.count > 1:
            dist.barrier()


def current() -> Processes:
    """Return this process's place; joins the ones that torchrun started when first called.

    They talk over gloo on CPUs and NCCL on GPUs.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Processes()
    if not dist.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group(timeout=timedelta(hours=24))  # one may train an autoencoder alone
    return Processes(dist.get_rank(), count)
