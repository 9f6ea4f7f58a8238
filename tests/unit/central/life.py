"""What an agent wrote into one lane: bodies and chain, computed here with hashlib alone."""

from collections.abc import Sequence
from hashlib import sha256

from edgeagent.central.store import LaneKey
from edgeagent.model.record import Batch, Instant, Lane, Record

EPOCH = "0192a7c4-0000-7000-8000-000000000001"
KEY = LaneKey("berlin-1", EPOCH, Lane.DATA)
AT = Instant(1_795_403_350_123_456_789, 86_400_123_456_789)


def frame(values: bytes = b"[7.21,-0.0]", status: bytes = b"0", present: bytes = b"null") -> bytes:
    """The tail of a frame's body."""
    return b'1,1,%d,%d,0,%b,%b,null,null,%b,null,"x:030a"]' % (*AT, status, present, values)


class Life:
    """One history of a lane."""

    def __init__(self, bodies: Sequence[bytes], key: LaneKey = KEY) -> None:
        self.key = key
        self.bodies = list(bodies)
        self.chains = [sha256(f"edgeagent/1|{key.epoch}|{key.lane}".encode()).digest()]
        for body in bodies:
            self.chains.append(sha256(self.chains[-1] + body).digest())

    def batch(self, first: int, last: int, missing: Sequence[int] = ()) -> tuple[Batch, bytes]:
        """A batch, and the payload that carries it."""
        bodies = [self.bodies[n - 1] for n in range(first, last + 1) if n not in missing]
        chains = self.chains[first - 1], self.chains[last]
        batch = Batch(*self.key[:2], self.key.lane, first, bodies, *chains, tuple(missing))
        return batch, batch.encode()

    def payload(self, first: int, last: int, missing: Sequence[int] = ()) -> bytes:
        return self.batch(first, last, missing)[1]


def life(count: int, mark: int = 0, key: LaneKey = KEY) -> Life:
    """A history of small frames; another mark makes other bodies."""
    tails = [frame(b"[%d,%d]" % (n, mark)) for n in range(count)]
    return Life([Record(Lane.DATA, "F", t).body(n) for n, t in enumerate(tails, 1)], key)


def fork(old: Life, shared: int, count: int) -> Life:
    """A history that leaves another one after ``shared`` records."""
    return Life(old.bodies[:shared] + life(count, mark=1).bodies[shared:], old.key)
