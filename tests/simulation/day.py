"""One bad day, expanded from its seed: what may go wrong, how often, and the chances themselves.

A day has a chaos phase and a healing phase; :meth:`Day.heal` ends the faults.
"""

from collections import Counter
from random import Random
from typing import NamedTuple

from edgeagent.model.settings import StreamSettings


class Fault(NamedTuple):
    """One kind of fault.

    :ivar most: highest rate that a day draws: a probability for each call, or times a minute
    """

    most: float
    meaning: str


EACH = {
    "device.silent": Fault(0.05, "an instrument gives no answer for a while"),
    "device.late": Fault(0.05, "one answer comes after its time-out"),
    "device.slow": Fault(0.05, "one answer takes longer than the period"),
    "device.wrong": Fault(0.05, "one answer fails its checks"),
    "device.refuses": Fault(0.05, "one answer is an exception"),
    "device.partial": Fault(0.10, "one answer lacks a tag"),
    "device.odd": Fault(0.20, "a value is not finite, a sentinel, or out of range"),
    "device.reboots": Fault(0.02, "it is away, and forgets what it had kept"),
    "device.swapped": Fault(0.30, "another instrument answers after a reconnect"),
    "driver.defect": Fault(0.02, "the driver raises what it should not"),
    "link.cut": Fault(0.03, "the connection breaks during a call"),
    "link.away": Fault(0.50, "the connection cannot be opened"),
    "broker.loses": Fault(0.03, "a message is acknowledged and not passed on"),
    "broker.repeats": Fault(0.10, "a message comes twice"),
    "broker.disorders": Fault(0.10, "a PUBACK comes late, behind others"),
    "broker.refuses": Fault(0.01, "PUBACK with 0x97, quota exceeded"),
    "broker.busy": Fault(0.30, "CONNACK with 0x89, server busy"),
    "consumer.rolls-back": Fault(0.03, "the consumer's transaction fails in its middle"),
    "agent.killed-in-commit": Fault(0.02, "kill -9 within a commit"),
    "agent.powerless-in-commit": Fault(0.02, "power loss within a commit"),
}
"""Faults of one call each."""

EVERY_MINUTE = {
    "broker.restart": Fault(1.0, "orderly: retained messages survive"),
    "broker.kill": Fault(1.0, "and its memory is gone"),
    "broker.half-open": Fault(1.0, "a connection is dead and nobody says so"),
    "broker.cut": Fault(2.0, "a connection is reset"),
    "broker.slow": Fault(1.0, "everything takes a hundred times as long, for a while"),
    "consumer.kill": Fault(2.0, "at any await"),
    "consumer.restore": Fault(0.7, "of an older backup of the database"),
    "consumer.replace": Fault(0.3, "by an empty database"),
    "agent.kill": Fault(2.0, "kill -9 at any await"),
    "agent.power-loss": Fault(1.0, "what was not synced is lost or torn; a new boot"),
    "agent.stop": Fault(1.0, "by command, and started again"),
    "disk.slow": Fault(1.0, "each call takes a hundred times as long, for a while"),
    "disk.sync-fails": Fault(2.0, "once or a few times"),
    "disk.full": Fault(1.0, "for a while"),
    "disk.rot": Fault(2.0, "a bit of an old record changes while the agent is down"),
    "journal.pack": Fault(6.0, "no fault: old rows become a block"),
    "journal.purge": Fault(6.0, "no fault: what everybody has receipted is forgotten"),
    "clock.step": Fault(2.0, "UTC is set, by seconds or by years"),
}
"""Faults that happen so many times a minute."""

HELD_BYTES_FEW = 2_000
CALM = 0.45
"""How likely a fault stays away for a whole day: a few at a time find more than all at once."""


def _rate(random: Random, most: float) -> float:
    return 0.0 if random.random() < CALM else round(random.random() * most, 4)


class Day:
    """What happens, and when; everything follows from the seed.

    :ivar rates: by name of the fault; 0 where it stays away. Each is drawn for itself: another
        kind of fault leaves the others of a seed as they are
    :ivar chaos_s: how long the chaos phase lasts
    :ivar consumers: how many there are
    :ivar receive_maximum: of the broker
    :ivar stream: limits of the lossless stream
    :ivar drift: of UTC, seconds per second
    :ivar held_bytes: what the agent may hold in memory while its disk refuses
    :ivar happened: how often each fault happened
    """

    def __init__(self, seed: int) -> None:
        random = Random(f"{seed}/day")
        self.seed = seed
        self.healing = False
        self.rates = {
            name: _rate(Random(f"{seed}/{name}"), fault.most)
            for name, fault in {**EACH, **EVERY_MINUTE}.items()
        }
        if self.rates["consumer.restore"] or self.rates["consumer.replace"]:
            self.rates["journal.purge"] = 0.0  # such a consumer would rightly miss what was purged
        self.stream = StreamSettings(
            window_messages=random.choice([1, 20]), batch_bytes=random.choice([1024, 131_072])
        )
        self.chaos_s = round(random.uniform(50, 120), 1)
        self.consumers = 1 + (random.random() < 0.25)
        self.receive_maximum = random.choice([1, 3, 20, 65_535])
        self.held_bytes = random.choice([HELD_BYTES_FEW, 1 << 24])
        self.drift = random.choice([0.0, 0.0, 5e-5, -5e-5])
        self.happened: Counter[str] = Counter()
        self._randoms: dict[str, Random] = {}

    def random(self, who: str) -> Random:
        """Return the generator of one part, so that a change of one does not move the others."""
        if who not in self._randoms:
            self._randoms[who] = Random(f"{self.seed}/{who}")
        return self._randoms[who]

    def strikes(self, fault: str, who: str = "") -> bool:
        """Return whether a fault happens to this call."""
        rate = self.rates[fault]
        if self.healing or not rate or self.random(f"{fault}/{who}").random() >= rate:
            return False
        self.happened[fault] += 1
        return True

    def heal(self) -> None:
        """From here on nothing goes wrong."""
        self.healing = True

    def __str__(self) -> str:
        faults = " ".join(f"{name}={rate:g}" for name, rate in self.rates.items() if rate)
        return (
            f"seed={self.seed} chaos={self.chaos_s:g}s consumers={self.consumers} "
            f"receive_maximum={self.receive_maximum} window={self.stream.window_messages} "
            f"batch_bytes={self.stream.batch_bytes} held_bytes={self.held_bytes} "
            f"drift={self.drift:g} {faults}"
        )
