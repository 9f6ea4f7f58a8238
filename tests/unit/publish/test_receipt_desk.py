"""The receipt desk: a receipt is taken exactly when it is true of what was sent.

Method: properties over upto, chain and what was sent, on a real journal; and bytes of any kind.
"""

import asyncio
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.journal import Journal
from edgeagent.journal.store import Consumer, Cursor
from edgeagent.model.record import Batch, Lane, Record, extend_chain, genesis
from edgeagent.publish.receipts import POINTS_MAX, Accepted, ReceiptDesk, Refusal
from tests.unit.publish.site import HandClock

SITE = "berlin-1"
BEFORE, SENT, HIGHEST = 10, 20, 30
"""Records before this process began; sent; committed."""


class Desk:
    """A journal of three commits: one is from before, one was sent, one is not sent yet."""

    def __init__(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.loop = asyncio.new_event_loop()
        self.loop.run_until_complete(self._build())

    async def _build(self) -> None:
        self.journal = await Journal.open(Path(self.directory.name), HandClock())
        await self.journal.save_consumer(Consumer("central", "enrolled", "i"))
        await self.journal.save_consumer(Consumer("gone", "retired", "i"))
        self.epoch = self.journal.epoch.uuid
        self.chains = [genesis(self.epoch, Lane.DATA)]
        await self._append()
        self.desk = ReceiptDesk(self.journal, SITE)
        await self._append()
        self.desk.sent(
            Batch(SITE, self.epoch, Lane.DATA, BEFORE + 1, [b""] * 10, b"", self.chains[SENT])
        )
        await self._append()

    async def _append(self) -> None:
        (part,) = await self.journal.append([Record(Lane.DATA, "G", b"1]")] * 10)
        for body in part.bodies:
            self.chains.append(extend_chain(self.chains[-1], [body]))

    def check(
        self, payload: bytes, consumer: str = "central", *, retained: bool = False
    ) -> Accepted | Refusal:
        checking = self.desk.check(consumer, payload, retained=retained)
        return self.loop.run_until_complete(checking)

    def close(self) -> None:
        self.loop.run_until_complete(self.journal.close())
        self.loop.close()
        self.directory.cleanup()


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.close()


def receipt(desk: Desk, **changes: Any) -> bytes:
    content = {
        "v": 1,
        "consumer": "central",
        "incarnation": "i",
        "site": SITE,
        "epoch": desk.epoch,
        "lane": "data",
        "upto": 0,
        "chain": desk.chains[0].hex(),
        "quarantined": [],
    }
    return json.dumps(content | changes).encode()


@given(upto=st.integers(-3, HIGHEST + 5), of=st.integers(0, HIGHEST))
def test_a_receipt_is_taken_when_it_is_true(desk: Desk, upto: int, of: int) -> None:
    verdict = desk.check(receipt(desk, upto=upto, chain=desk.chains[of].hex()))
    if upto < 0:
        assert verdict == Refusal("malformed: a number or a name is out of range")
    elif upto > HIGHEST:
        assert isinstance(verdict, Refusal)
        assert verdict.reason == "beyond the end of the journal"
        assert verdict.rolled_back
    elif upto > SENT:
        assert isinstance(verdict, Refusal)
        assert verdict.reason == "beyond what was sent"
    elif upto != of:
        assert isinstance(verdict, Refusal)
        assert verdict.reason.startswith("wrong hash")
    else:
        assert isinstance(verdict, Accepted)
        assert verdict.cursor == Cursor(upto, desk.chains[upto])
    assert desk.journal.cursors == {}, "a verdict changes nothing"
    if isinstance(verdict, Refusal):
        assert verdict.rolled_back is (upto > HIGHEST)


@given(
    st.binary(max_size=200)
    | st.builds(
        lambda value: json.dumps(value).encode(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
            ),
        ),
    )
)
def test_no_bytes_are_too_strange(desk: Desk, payload: bytes) -> None:
    assert isinstance(desk.check(payload), Refusal)


json_values = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=50)
    | st.lists(st.integers(), max_size=3)
)


@given(st.data())
def test_no_value_is_too_strange(desk: Desk, data: st.DataObject) -> None:
    """Goal: whatever stands in a field, there is a verdict, and what it repeats can be recorded."""
    keys = ("v", "consumer", "incarnation", "site", "epoch", "lane", "upto", "chain", "quarantined")
    key = data.draw(st.sampled_from(keys), "key")
    value = data.draw(json_values, "value")
    verdict = desk.check(receipt(desk, **{key: value}))
    if isinstance(verdict, Refusal):
        assert len(verdict.reason) < 300
    if verdict.receipt is not None:
        assert 0 <= verdict.receipt.upto < 1 << 48
        assert all(0 < seq < 1 << 48 for seq in verdict.receipt.quarantined)
        assert len(verdict.receipt.epoch) <= 36


@pytest.mark.parametrize("payload", [b"[" * 100_000, b'{"x":' * 100_000, b'{"v":1,"site":"\xff"}'])
def test_depth_and_false_utf_8_are_malformed(desk: Desk, payload: bytes) -> None:
    verdict = desk.check(payload)
    assert isinstance(verdict, Refusal)
    assert verdict.reason.startswith("malformed: ")


@pytest.mark.parametrize("consumer", ["gone", "nobody", "x" * 999])
def test_only_the_enrolled_are_heard(desk: Desk, consumer: str) -> None:
    verdict = desk.check(receipt(desk, consumer=consumer), consumer)
    assert isinstance(verdict, Refusal)
    assert verdict.reason.startswith("not enrolled")


def test_a_retained_receipt_is_refused_unread(desk: Desk) -> None:
    verdict = desk.check(receipt(desk), retained=True)
    assert isinstance(verdict, Refusal)
    assert verdict.reason.startswith("retained")
    assert verdict.receipt is None


def test_what_it_remembers_is_bounded(desk: Desk) -> None:
    """Goal: memory does not grow with what is sent; what is forgotten is on the disk."""
    for last in range(1, 2 * POINTS_MAX):
        desk.desk.sent(Batch(SITE, "another", Lane.EVENT, last, [b""], b"", b""))
    assert len(desk.desk._points) == POINTS_MAX
    verdict = desk.check(receipt(desk, upto=SENT, chain=desk.chains[SENT].hex()))
    assert isinstance(verdict, Accepted)
