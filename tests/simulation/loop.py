"""An event loop whose time is a number and whose threads are a delay.

Nothing here asks the machine for anything: no socket, no thread, no clock. A loop that is given
the same work and the same seed does the same again, in any process.
"""

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")


class VirtualLoop(asyncio.BaseEventLoop):
    """Time passes when everybody waits.

    Work for an executor is done in the loop, at a moment within a delay that the seed draws; work
    for one executor is done one after the other, as by a single thread.

    :ivar pace: returns how long a piece of work of an executor takes, in seconds
    :ivar worked: called behind each piece of work, before anybody hears of its result
    :ivar unexpected: what nobody caught
    """

    def __init__(self, random: Random) -> None:
        super().__init__()
        self.pace: Callable[[Any], float] = lambda executor: 0.002
        self.worked: Callable[[Any], None] = lambda executor: None
        self.unexpected: list[str] = []
        self._now_s = 0.0
        self._random = random
        self._free_at_s: dict[Any, float] = {}
        self._numbers = itertools.count()
        self._selector = self
        self.set_task_factory(self._task)
        self.set_exception_handler(self._note)

    def time(self) -> float:
        return self._now_s

    def select(self, timeout: float | None) -> list[Any]:
        """Let time pass up to the next timer; asyncio calls it when nothing else is to be done."""
        if timeout is None:
            raise RuntimeError("everybody waits for something that cannot happen")
        if timeout > 0:
            self._now_s = max(self._now_s, self._scheduled[0].when())
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody calls from another thread."""

    def _task(self, loop: asyncio.AbstractEventLoop, coro: Any, **facts: Any) -> asyncio.Task[Any]:
        return _Task(next(self._numbers), coro, loop=loop, **facts)

    def _note(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.unexpected.append(f"{context.get('message')}: {context.get('exception')!r}")

    def run_in_executor(
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        done: asyncio.Future[T] = self.create_future()
        begins_s = max(self._now_s, self._free_at_s.get(executor, 0.0))
        takes_s = self.pace(executor)
        ends_s = self._free_at_s[executor] = begins_s + takes_s
        works_s = begins_s + takes_s * self._random.random()
        self.call_at(works_s, self._work, executor, lambda: func(*args), done, ends_s)
        return done

    def _work(
        self, executor: Any, work: Callable[[], T], done: asyncio.Future[T], ends_s: float
    ) -> None:
        if done.cancelled():
            return
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 - raised again where it is awaited
            self.call_at(ends_s, _fail, done, error)
        else:
            self.call_at(ends_s, _succeed, done, result)
        self.worked(executor)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run to the end of the work and of every task that it left behind, and close."""
        try:
            return self.run_until_complete(work)
        finally:
            left = sorted(asyncio.all_tasks(self), key=hash)
            for task in left:
                task.cancel()
            self.run_until_complete(asyncio.wait(left) if left else asyncio.sleep(0))
            self.close()


class _Task(asyncio.Task[Any]):
    """A task with a number: asyncio keeps tasks in sets, whose order follows from the hash."""

    def __init__(self, number: int, coro: Any, **facts: Any) -> None:
        self._number = number
        super().__init__(coro, **facts)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


def _succeed(done: asyncio.Future[T], result: T) -> None:
    if not done.done():
        done.set_result(result)


def _fail(done: asyncio.Future[Any], error: Exception) -> None:
    if not done.done():
        done.set_exception(error)
