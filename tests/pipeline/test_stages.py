"""Stages that write files, done once, and done again when what they are made from changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sidestep.errors import StageFailed, Stopped
from sidestep.pipeline.ledger import LOG, Ledger
from sidestep.pipeline.stages import Stage, plan, run_stages


class Run:
    """Two stages: `double` writes twice the number in a file, `print` writes that as text."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.done: list[str] = []
        self.told: list[str] = []
        self.number, self.way = 3, "add"
        self.error: BaseException | None = None
        self.failing = "print"
        out.mkdir(exist_ok=True)

    def stages(self) -> list[Stage]:
        return [
            self._stage("double", lambda: [self.number, self.way], lambda: str(2 * self.number)),
            self._stage("print", lambda: self._read("double"), lambda: f"<{self._read('double')}>"),
        ]

    def go(self) -> list[str]:
        """Run in a new process's place, as it were; returns the stages that were done."""
        self.done.clear()
        ledger = Ledger.open(self.out / "run", {})
        run_stages(
            self.stages(), ledger, self.out / "run", tell=self.told.append, command="sidestep run"
        )
        return list(self.done)

    def plan(self) -> list[str]:
        return [state for _, state in plan(self.stages(), Ledger.open(self.out / "run", {}))]

    def _stage(self, name: str, inputs: Callable[[], object], text: Callable[[], str]) -> Stage:
        def work() -> str:
            if self.error is not None and name == self.failing:
                (self.out / "run" / "half done").touch()
                raise self.error
            self.done.append(name)
            (self.out / name).write_text(text())
            return f"wrote {text()}"

        return Stage(name, "writes", inputs, lambda: self._read(name), work)

    def _read(self, name: str) -> str | None:
        path = self.out / name
        return path.read_text() if path.is_file() else None


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "files")


def test_a_stage_is_done_once(run: Run) -> None:
    assert run.plan() == ["to do", "after that"]
    assert run.go() == ["double", "print"]
    assert run.told[-1].startswith("[2/2] print: done in 0 s: wrote <6>")
    assert run.go() == []
    assert "unchanged since" in run.told[-1]
    assert run.plan() == ["unchanged", "unchanged"]


def test_a_change_is_followed_by_what_depends_on_it(run: Run) -> None:
    run.go()
    run.number = 4
    assert run.plan() == ["to do", "after that"]
    assert run.go() == ["double", "print"]
    assert (run.out / "print").read_text() == "<8>"


def test_what_comes_out_the_same_ends_the_work(run: Run) -> None:
    run.go()
    run.way = "shift"
    assert run.go() == ["double"]


def test_what_is_lost_or_changed_is_made_again(run: Run) -> None:
    run.go()
    (run.out / "print").unlink()
    assert run.go() == ["print"]
    (run.out / "print").write_text("damaged")
    assert run.go() == ["print"]


def test_a_failure_names_the_stage_the_log_and_the_command(run: Run) -> None:
    run.error = ValueError("no room")
    with pytest.raises(StageFailed, match="stage print failed: no room") as failed:
        run.go()
    log = run.out / "run" / LOG
    assert str(log) in str(failed.value)
    assert "goes on from there: sidestep run" in str(failed.value)
    assert "Traceback" in log.read_text()
    assert "ValueError: no room" in log.read_text()
    run.error = None
    assert run.go() == ["print"]


@pytest.mark.parametrize("stop", [Stopped(3, 9, Path("runs/a")), KeyboardInterrupt()])
def test_a_stop_is_no_failure(run: Run, stop: BaseException) -> None:
    run.error = stop
    with pytest.raises(type(stop)):
        run.go()
    run.error = None
    assert run.go() == ["print"]


@pytest.mark.parametrize(
    "error", [Stopped(3, 9, Path("runs/a")), KeyboardInterrupt(), ValueError("no room")]
)
def test_a_run_whose_first_stage_did_not_end_goes_on(run: Run, error: BaseException) -> None:
    run.error, run.failing = error, "double"
    with pytest.raises(StageFailed if isinstance(error, ValueError) else type(error)):
        run.go()
    run.error = None
    assert run.plan() == ["to do", "after that"]
    assert run.go() == ["double", "print"]
