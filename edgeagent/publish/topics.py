"""Topics of the lossless stream (``docs/mqtt.md`` section 1)."""

from dataclasses import dataclass

from edgeagent.model.record import Lane


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one site."""

    base: str

    @classmethod
    def of(cls, root: str, site: str) -> "Topics":
        """Return the topics below ``{root}/{site}``."""
        return cls(f"{root}/{site}")

    def live(self, lane: Lane) -> str:
        """Batches in order, for everybody."""
        return f"{self.base}/{lane}"

    def to(self, consumer: str, lane: Lane) -> str:
        """Batches for one consumer."""
        return f"{self.base}/to/{consumer}/{lane}"

    def schema(self, epoch: str, number: int) -> str:
        """One schema record, retained."""
        return f"{self.base}/schema/{epoch}/{number}"

    def context(self, lane: Lane) -> str:
        """The current context record, retained."""
        return f"{self.base}/context/{lane}"

    @property
    def head(self) -> str:
        """Where each lane stands, retained."""
        return f"{self.base}/head"

    def reply(self, consumer: str) -> str:
        """Answers to one consumer."""
        return f"{self.base}/reply/{consumer}"

    def is_reply(self, topic: str) -> bool:
        """Return whether a response topic is one on which this site answers."""
        return topic.startswith(f"{self.base}/reply/") and not set(topic) & set("+#")

    @property
    def incoming(self) -> list[str]:
        """What the agent subscribes to."""
        return [f"{self.base}/receipt/+", f"{self.base}/request/+"]

    def parse_incoming(self, topic: str) -> tuple[str, str] | None:
        """Return ``(receipt or request, consumer)`` of a topic, ``None`` for any other."""
        parts = topic.removeprefix(f"{self.base}/").split("/")
        if len(parts) != 2 or parts[0] not in ("receipt", "request"):
            return None
        return parts[0], parts[1]
