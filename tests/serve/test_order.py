from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable

import pytest

from serve.order import Order
from sidestep.requests import GenerateRequest, Picture


def order_of(count: int) -> Order:
    return Order(GenerateRequest(prompt="red apple", count=count))


async def on_threads(*calls: Callable[[], None]) -> None:
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    await asyncio.to_thread(lambda: [thread.join() for thread in threads])


async def test_pictures_come_in_any_order_and_are_told_in_theirs() -> None:
    order = order_of(16)
    order.dropped = "and a pear"
    waiting = asyncio.ensure_future(order.pictures())
    places = random.Random(0).sample(range(16), 16)
    last = places.pop()
    await on_threads(*(lambda i=i: order.put(i, Picture(b"", seed=i)) for i in places))
    await asyncio.sleep(0)
    assert not waiting.done()
    assert not order.over
    await on_threads(lambda: order.put(last, Picture(b"", seed=last)))
    pictures = await waiting
    assert [picture.seed for picture in pictures] == list(range(16))
    assert {picture.dropped for picture in pictures} == {"and a pear"}
    assert order.over


async def test_the_first_error_ends_it() -> None:
    order = order_of(3)
    order.put(0, Picture(b"", seed=0))
    order.fail(OSError("no room"))
    order.fail(ValueError("later"))
    with pytest.raises(OSError, match="no room"):
        await order.pictures()
    order.put(1, Picture(b"", seed=1))
    order.put(2, Picture(b"", seed=2))
    await asyncio.sleep(0)
    assert order.over


async def test_a_caller_who_left_needs_no_more() -> None:
    order = order_of(1)
    waiting = asyncio.ensure_future(order.pictures())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert order.over
    order.put(0, Picture(b"", seed=0))
    await asyncio.sleep(0)


def test_a_loop_that_is_closed_is_nobody_to_tell() -> None:
    orders: list[Order] = []

    async def begin() -> None:
        orders.append(order_of(1))

    asyncio.run(begin())
    orders[0].put(0, Picture(b"", seed=0))
