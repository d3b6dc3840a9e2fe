"""Every error that sidestep raises on purpose.

SidestepError
├── InvalidRequest        a field of a request is out of its bounds (the caller mends it)
│   └── RequestTooLarge   the body is larger than the service reads
├── InvalidModel          a model folder is incomplete, damaged or of another kind
├── InvalidData           a data set or a downloaded package is damaged
├── InvalidTraining       a training option or a run folder cannot be used
├── Stopped               a long run was asked to stop, and saved its state first
├── BackendUnavailable    a package that this command needs is not installed
├── CertificateFailed     an exported graph does not match its reference
├── VerificationFailed    a picture is not what its recipe draws
├── Unauthorized          the service wants an API key, and none or a wrong one was given
├── Forbidden             the API key does not allow this
├── Superseded            a newer request of the same client replaced this one
├── EngineMismatch        a compiled plan belongs to another GPU, library, model or machine
├── NoGpu                 an engine needs a GPU, and none answers or it failed
├── CompileFailed         a compiler refused a graph, or made of it what was not asked for
├── StageFailed           a stage of `sidestep run` failed; those before it are kept
├── BenchmarkFailed       what is measured failed in mid-run; what was measured before is told
├── ProblemsFound         `sidestep doctor` found what serving does not work with
├── NotEnoughRoom         too little memory or disk for a command, found out before it starts
└── ServiceUnavailable    the service cannot be reached, is full or is stopping
    └── ServiceBusy       it would be too late now; `retry_after_s` says when to come back

The library raises; the command line and the HTTP routes translate, each in one place
(`sidestep.cli.main`, `serve.errors`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class SidestepError(Exception):
    """Base of all errors that name their own mend."""

    code = "error"


class InvalidRequest(SidestepError):
    """A request's field is out of its bounds; `field` names it."""

    code = "invalid_request"

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class RequestTooLarge(InvalidRequest):
    """The request's body is larger than the service reads."""

    code = "request_too_large"


class InvalidModel(SidestepError):
    """A model folder is incomplete, damaged or of another kind; the message names the file."""

    code = "invalid_model"


class InvalidData(SidestepError):
    """A data set or a downloaded package is damaged or missing; the message names the file."""

    code = "invalid_data"


class InvalidTraining(SidestepError):
    """A training option or a run folder cannot be used."""

    code = "invalid_training"


class Stopped(SidestepError):
    """A long run was asked to stop, and saved its state first."""

    code = "stopped"

    def __init__(self, step: int, last: int, folder: Path) -> None:
        super().__init__(
            f"stopped after {step} of {last} steps; the same command goes on from {folder}"
        )
        self.step = step
        self.last = last


class BackendUnavailable(SidestepError):
    """A package that this command needs is not installed; `extra` brings it, or it stands alone."""

    code = "backend_unavailable"

    def __init__(self, package: str, extra: str | None = None) -> None:
        what = f"'sidestep[{extra}]'" if extra else package
        super().__init__(f"{package} is not installed; run: pip install {what}")
        self.package = package
        self.extra = extra


@contextmanager
def needing(extra: str) -> Iterator[None]:
    """Raise BackendUnavailable, with the extra that brings it, for what cannot be imported."""
    try:
        yield
    except ImportError as error:
        raise BackendUnavailable(error.name or extra, extra) from error


def one_line(error: Exception, most: int = 300) -> str:
    """Write at most so many characters of what a library raised, in one line."""
    return " ".join(str(error).split())[:most]


class CertificateFailed(SidestepError):
    """An exported graph differs from its PyTorch reference by more than its tolerance."""

    code = "certificate_failed"


class VerificationFailed(SidestepError):
    """A picture differs from what its recipe draws by more than the certificate allows."""

    code = "verification_failed"


class Unauthorized(SidestepError):
    """The service wants an API key, and none or a wrong one was given."""

    code = "unauthorized"


class Forbidden(SidestepError):
    """The caller is known, or needs not be, but may not do this."""

    code = "forbidden"


class Superseded(SidestepError):
    """A newer request of the same client replaced this one; its answer is the one to show."""

    code = "superseded"


class EngineMismatch(SidestepError):
    """A compiled plan is not for this GPU, library or model, or was not made on this machine."""

    code = "engine_mismatch"

    def __init__(self, what: str, *, plan: object, here: object, mend: str) -> None:
        super().__init__(f"{what} is {plan} in the plan's manifest but {here} here; run: {mend}")
        self.plan = plan
        self.here = here


class NoGpu(SidestepError):
    """An engine needs a GPU; none answers, or CUDA reported an error."""

    code = "no_gpu"


class CompileFailed(SidestepError):
    """A compiler refused a graph, or made something else of it than was asked for."""

    code = "compile_failed"


class StageFailed(SidestepError):
    """A stage of a run failed; those before it are kept, and the same command goes on."""

    code = "stage_failed"

    def __init__(self, stage: str, error: Exception, *, log: Path, command: str) -> None:
        super().__init__(
            f"stage {stage} failed: {str(error) or type(error).__name__}\n  log: {log}\n"
            f"  when that is mended, this goes on from there: {command}"
        )
        self.stage = stage


class BenchmarkFailed(SidestepError):
    """What is measured died or answered errors; what was measured until then is in the report."""

    code = "benchmark_failed"


class ProblemsFound(SidestepError):
    """Checks found what serving does not work with; each was told with its mend."""

    code = "problems_found"


class NotEnoughRoom(SidestepError):
    """A command needs more memory or disk than is free; found out before it starts."""

    code = "not_enough_room"


class ServiceUnavailable(SidestepError):
    """The service cannot be reached, is full or is stopping; try again later."""

    code = "unavailable"


class ServiceBusy(ServiceUnavailable):
    """The service cannot draw this in time; `retry_after_s` is its own guess of when it can.

    reason: "queue" (no room), "deadline" (the predicted wait is too long), "expired" or "rate" (a
        limit of pictures a minute)
    wait_s: the predicted seconds until the pictures would have been drawn, where predicted
    """

    code = "busy"

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float,
        reason: str = "queue",
        wait_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.reason = reason
        self.wait_s = wait_s
