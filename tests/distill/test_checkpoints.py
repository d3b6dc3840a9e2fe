"""What saving a state costs where it is sharded."""

from __future__ import annotations

import weakref
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from distill.checkpoints import Checkpoint
from distill.processes import Processes


@pytest.mark.parametrize("kind", [torch.OutOfMemoryError, dist.DistError])
def test_what_is_not_the_files_fault_is_not_told_as_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    """The advice for damage is to delete the file, which may hold hours of training."""

    def fail(saved: Tensor, wanted: Tensor) -> Tensor:
        raise kind("nothing to do with the file")

    state = Checkpoint(tmp_path, {"theta": nn.Linear(2, 2)}, {}, {})
    state.save(1)
    monkeypatch.setattr("distill.checkpoints.like", fail)
    with pytest.raises(kind, match="nothing to do with the file"):
        state.load()


def test_a_process_that_does_not_write_keeps_no_gathered_tensor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gathered: list[weakref.ref[Tensor]] = []
    most = 0

    def whole(tensor: Tensor) -> Tensor:
        nonlocal most
        most = max(most, sum(one() is not None for one in gathered))
        copy = tensor.clone()
        gathered.append(weakref.ref(copy))
        return copy

    monkeypatch.setattr("distill.checkpoints.whole", whole)
    monkeypatch.setattr("distill.checkpoints.current", lambda: Processes(1, 2))
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    adam = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 2)).sum().backward()
    adam.step()
    Checkpoint(tmp_path, {"theta": network}, {"theta": adam}, {}).save(1)
    assert len(gathered) == 4 + 3 * 4  # weights, and steps and two moments of each
    assert most == 0
    assert not list(tmp_path.iterdir())
