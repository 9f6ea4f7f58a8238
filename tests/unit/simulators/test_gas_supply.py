"""A gas line follows its set-point, and starves when its supply is closed."""

from random import Random

import pytest

from simulators.process.gas_supply import (
    OTHER_SET_POINT,
    SUPPLY_CLOSED,
    GasSupply,
    GasSupplySettings,
)
from simulators.settings import Refused


def line(**settings):
    return GasSupply(GasSupplySettings(**settings), Random(1))


def test_the_flow_follows_the_set_point_within_seconds():
    gas = line(set_point_sccm=50.0, other_set_point_sccm=200.0)
    gas.disturbances.begin(OTHER_SET_POINT)
    assert gas.set_point_sccm == 200.0
    gas.step(0.5)
    assert 100.0 < gas.flow_sccm < 160.0
    gas.step(5.0)
    assert gas.flow_sccm == pytest.approx(200.0, abs=0.5)
    assert gas.valve_pct == pytest.approx(40.0, abs=0.1)
    gas.disturbances.end(OTHER_SET_POINT)
    gas.step(5.0)
    assert gas.flow_sccm == pytest.approx(50.0, abs=0.5)


def test_a_closed_supply_leaves_noise_and_an_open_valve():
    gas = line()
    gas.disturbances.begin(SUPPLY_CLOSED)
    seen = []
    for _ in range(100):
        gas.step(1.0)
        seen.append(gas.flow_sccm)
    assert max(map(abs, seen[10:])) < 0.5
    assert min(seen[10:]) < 0.0, "noise around zero is negative at times"
    assert gas.valve_pct == 100.0


@pytest.mark.parametrize("key", ["set_point_sccm", "other_set_point_sccm"])
def test_a_set_point_beyond_the_full_scale_is_refused(key):
    with pytest.raises(Refused, match=key):
        GasSupplySettings(**{key: 501.0})
