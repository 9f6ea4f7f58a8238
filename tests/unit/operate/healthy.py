"""The facts of a site at which nothing is wrong, to be changed in one place."""

from dataclasses import replace
from typing import Any

from edgeagent.operate.facts import (
    BrokerFacts,
    ConsumerFacts,
    Facts,
    JournalFacts,
    LaneLag,
    LinkFacts,
    Spread,
)

CENTRAL = ConsumerFacts("central", lanes=(LaneLag("data", 3, 0.2), LaneLag("event")))
LINK = LinkFacts(
    "gateway",
    ("probe", "scale"),
    for_s=3000.0,
    frames=900,
    connects=1,
    late=Spread(0.001, 0.002, 900, 0.5),
    late_p99=0.001,
    late_max=0.002,
)
BROKER = BrokerFacts("mqtts://broker.example", for_s=3000.0, connects=1, receipts=17)

HEALTHY = Facts(
    site="berlin-1",
    agent="0.1.0",
    configuration="c0ffee",
    uptime_s=3600.0,
    groups=2,
    broker=BROKER,
    consumers=(CENTRAL,),
    links=(LINK,),
    journal=JournalFacts(10**6, {"data": 1000, "event": 7}, commits=Spread(0.004, 0.01, 900, 2)),
    loop_lag=Spread(0.001, 0.002, 240, 0.1),
)


def facts(**changes: Any) -> Facts:
    """Return the facts of a healthy site, but for these."""
    return replace(HEALTHY, **changes)


def link(**changes: Any) -> Facts:
    """Return the facts of a site whose one link is different."""
    return facts(links=(replace(LINK, **changes),))


def journal(**changes: Any) -> Facts:
    """Return the facts of a site whose journal is different."""
    return facts(journal=replace(HEALTHY.journal, **changes))
