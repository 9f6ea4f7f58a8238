"""Topics: what is published, what is understood, where an answer may go."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.model.record import Lane
from edgeagent.publish.topics import Topics

TOPICS = Topics.of("edge/v1", "berlin-1")


def test_the_topics_are_those_of_the_contract() -> None:
    assert [TOPICS.live(lane) for lane in Lane] == [
        "edge/v1/berlin-1/data",
        "edge/v1/berlin-1/event",
    ]
    assert TOPICS.to("central", Lane.DATA) == "edge/v1/berlin-1/to/central/data"
    assert TOPICS.head == "edge/v1/berlin-1/head"
    assert TOPICS.schema("0192", 7) == "edge/v1/berlin-1/schema/0192/7"
    assert TOPICS.context(Lane.EVENT) == "edge/v1/berlin-1/context/event"
    assert TOPICS.reply("central") == "edge/v1/berlin-1/reply/central"
    assert TOPICS.incoming == ["edge/v1/berlin-1/receipt/+", "edge/v1/berlin-1/request/+"]


@pytest.mark.parametrize("kind", ["receipt", "request"])
def test_what_consumers_send_is_understood(kind: str) -> None:
    assert TOPICS.parse_incoming(f"edge/v1/berlin-1/{kind}/central") == (kind, "central")


@given(st.text(alphabet="/abc+#$é ", max_size=30))
def test_any_other_topic_is_none_of_ours(text: str) -> None:
    for topic in (text, f"edge/v1/berlin-1/{text}", f"edge/v1/berlin-1/receipt/{text}"):
        parsed = TOPICS.parse_incoming(topic)
        if parsed is not None:
            assert topic.endswith("/".join(parsed))
            assert "/" not in parsed[1]


@pytest.mark.parametrize(
    ("topic", "allowed"),
    [
        ("edge/v1/berlin-1/reply/central", True),
        ("edge/v1/berlin-1/reply/central/deeper", True),
        ("edge/v1/berlin-1/reply/", True),
        ("edge/v1/berlin-1/reply", False),
        ("edge/v1/berlin-1/data", False),
        ("edge/v1/berlin-2/reply/central", False),
        ("edge/v1/berlin-1/reply/+", False),
        ("edge/v1/berlin-1/reply/#", False),
        ("", False),
    ],
)
def test_an_answer_goes_below_our_replies_only(topic: str, allowed: bool) -> None:
    assert TOPICS.is_reply(topic) is allowed
