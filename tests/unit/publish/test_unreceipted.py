"""What was sent and not receipted: its size, and since when a consumer has been owed a receipt.

Method: against a plain list that forgets nothing.
"""

from hypothesis import given
from hypothesis import strategies as st

from edgeagent.publish.delivery import Unreceipted

messages = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 1000)), max_size=20)


@given(start=st.integers(0, 50), sizes=messages, receipts=st.lists(st.integers(0, 200), max_size=5))
def test_it_agrees_with_a_plain_list(
    start: int, sizes: list[tuple[int, int]], receipts: list[int]
) -> None:
    unreceipted, plain = Unreceipted(), []
    last = start
    for at_s, (count, size) in enumerate(sizes):
        unreceipted.sent(last + 1, last + count, size, float(at_s))
        plain.append((last + 1, last + count, size, float(at_s)))
        last += count
    for upto in receipts:
        left = [each for each in plain if each[1] > upto]
        assert unreceipted.receipted(upto) is (len(left) < len(plain))
        plain = left
        assert unreceipted.bytes == sum(size for _, _, size, _ in plain)
    for upto in range(start - 1, last + 2):
        since = [at for first, end, _, at in plain if first <= upto + 1 <= end]
        assert unreceipted.waiting_since_s(upto) == (since[0] if since else float("-inf"))
    unreceipted.clear()
    assert unreceipted.bytes == 0
    assert unreceipted.waiting_since_s(start) == float("-inf")
    assert not unreceipted.receipted(last)
