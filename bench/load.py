"""Load on anything that answers: an open loop at a rate, a closed one of callers.

An open loop sends when a request is due, whether or not earlier ones are answered, and counts from
when it was due. A closed loop asks again when it is answered: a service that stalls is then asked
less, and the requests that the stall would have delayed are never sent nor counted (coordinated
omission). It is here to compare with.

Time is the event loop's, so that a test can let it pass as it likes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

DEAD_AFTER = 20  # requests in a row without any answer, after which nobody is asked any more
PAUSE_S = 0.1  # of a caller of a closed loop whose answer was none that was asked for


@dataclass(frozen=True)
class Answer:
    """What came back. status: HTTP's, or 0 without an answer, and `fault` says why.

    timings: queue, engine, encode and total in ms and batch, where the service tells them
    retry_after: whether it says when to ask again
    repeated: whether the request was sent twice, since a kept connection was closed under the first
    """

    status: int
    fault: str = ""
    timings: dict[str, float] = field(default_factory=dict)
    retry_after: bool = False
    repeated: bool = False

    @property
    def good(self) -> bool:
        """Whether it is what was asked for."""
        return 200 <= self.status < 300

    @property
    def code(self) -> str:
        """The status, or the fault in its place."""
        return str(self.status) if self.status else self.fault or "no answer"


@dataclass(frozen=True)
class Outcome:
    """An answer, when its request was due, sent and answered: seconds from the start."""

    answer: Answer
    due: float
    sent: float
    ended: float

    @property
    def latency_ms(self) -> float:
        """From when the request was due to the end of its answer."""
        return 1e3 * (self.ended - self.due)


Ask = Callable[[int], Awaitable[Answer]]  # the number of the request -> its answer


@dataclass(frozen=True)
class Run:
    """What became of the requests of one loop, in the order in which they were due.

    died: whether the service stopped answering, so that nobody was asked any more
    """

    outcomes: Sequence[Outcome]
    died: bool = False

    @property
    def seconds(self) -> float:
        """From the start to the last answer."""
        return max((outcome.ended for outcome in self.outcomes), default=0.0)

    @property
    def codes(self) -> dict[str, int]:
        """How many answers there were of each status or fault."""
        return dict(sorted(Counter(outcome.answer.code for outcome in self.outcomes).items()))

    @property
    def good(self) -> list[Outcome]:
        """Those that were answered with what was asked for."""
        return [outcome for outcome in self.outcomes if outcome.answer.good]

    @property
    def latencies_ms(self) -> NDArray[np.float64]:
        """All latencies; infinite where the answer was not what was asked for."""
        return np.array(
            [outcome.latency_ms if outcome.answer.good else np.inf for outcome in self.outcomes]
        )

    @property
    def lateness_ms(self) -> NDArray[np.float64]:
        """How late each request was sent: the load generator's own delay, part of the latency."""
        return np.array([1e3 * (outcome.sent - outcome.due) for outcome in self.outcomes])


async def open_loop(
    ask: Ask,
    due: Sequence[float] | NDArray[np.float64],
    *,
    settled: Callable[[Outcome], bool] = lambda outcome: False,
) -> Run:
    """Send a request at each of these seconds from now; ends early if the service is dead.

    settled: sees each outcome as it comes, and ends the loop by saying that nothing more matters
    """
    watch = _Watch(ask, settled)
    tasks = []
    for index, at in enumerate(due):
        await asyncio.sleep(watch.began + at - watch.loop.time())
        if watch.dead or (watch.settled and not watch.unanswered):
            break
        tasks.append(asyncio.ensure_future(watch.ask(index, float(at))))
    return Run(await asyncio.gather(*tasks), watch.dead)


async def closed_loop(ask: Ask, *, callers: int, seconds: float, count: int | None = None) -> Run:
    """Let `callers` ask, each anew when it is answered, for `seconds` or `count` requests.

    Who is refused or answered with an error pauses: those may come at once, by the thousand.
    """
    watch = _Watch(ask)
    outcomes: list[Outcome] = []
    asked = 0

    async def caller() -> None:
        nonlocal asked
        while not watch.dead and (now := watch.now()) < seconds and asked != count:
            asked += 1
            outcomes.append(outcome := await watch.ask(asked - 1, now))
            if outcome.answer.status and not outcome.answer.good:
                await asyncio.sleep(PAUSE_S)

    await asyncio.gather(*(caller() for _ in range(callers)))
    return Run(sorted(outcomes, key=lambda outcome: outcome.due), watch.dead)


class _Watch:
    """Times requests and notices a service that answers none any more."""

    def __init__(
        self, ask: Ask, settled: Callable[[Outcome], bool] = lambda outcome: False
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.began = self.loop.time()
        self.settled = False
        self.unanswered = 0  # requests in a row
        self._ask, self._settles = ask, settled

    @property
    def dead(self) -> bool:
        return self.unanswered >= DEAD_AFTER

    def now(self) -> float:
        return self.loop.time() - self.began

    async def ask(self, index: int, due: float) -> Outcome:
        sent = self.now()
        answer = await self._ask(index)
        self.unanswered = 0 if answer.status else self.unanswered + 1
        outcome = Outcome(answer, due, sent, self.now())
        self.settled |= self._settles(outcome)
        return outcome
