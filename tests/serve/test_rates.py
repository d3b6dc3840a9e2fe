from __future__ import annotations

import pytest

from serve.rates import MOST_CALLERS, Rates
from sidestep.errors import ServiceBusy


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_empties_and_fills() -> None:
    clock = Clock()
    rates = Rates(60, "address", clock)
    for _ in range(60):
        rates.take("a", 1)
    with pytest.raises(ServiceBusy, match="60 pictures a minute") as refused:
        rates.take("a", 4)
    assert refused.value.reason == "rate"
    assert refused.value.retry_after_s == pytest.approx(4)
    rates.take("b", 16)
    clock.now += 4
    rates.take("a", 4)
    with pytest.raises(ServiceBusy):
        rates.take("a", 1)
    clock.now += 1e6
    rates.take("a", 60)
    with pytest.raises(ServiceBusy):
        rates.take("a", 1)


def test_a_refusal_costs_nothing() -> None:
    clock = Clock()
    rates = Rates(60, "address", clock)
    rates.take("a", 50)
    for _ in range(100):
        with pytest.raises(ServiceBusy):
            rates.take("a", 16)
    rates.take("a", 10)


def test_the_largest_request_is_never_refused_for_ever() -> None:
    clock = Clock()
    rates = Rates(1, "address", clock)
    rates.take("a", 16)
    with pytest.raises(ServiceBusy) as refused:
        rates.take("a", 16)
    clock.now += refused.value.retry_after_s
    rates.take("a", 16)


def test_memory_is_bounded() -> None:
    rates = Rates(1, "address", Clock())
    for number in range(MOST_CALLERS + 500):
        rates.take(str(number), 1)
    assert len(rates) == MOST_CALLERS


def test_who_asked_least_lately_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.rates.MOST_CALLERS", 3)
    rates = Rates(1, "address", Clock())
    for caller in "abc":
        rates.take(caller, 16)
    with pytest.raises(ServiceBusy):
        rates.take("a", 1)  # refused, but asked lately
    rates.take("d", 16)
    for caller in "ad":
        with pytest.raises(ServiceBusy):
            rates.take(caller, 1)
    rates.take("b", 16)  # as if it had never been here


def test_nothing_is_limited_unless_told() -> None:
    rates = Rates(0, "address")
    for _ in range(1000):
        rates.take("a", 16)
    assert len(rates) == 0
