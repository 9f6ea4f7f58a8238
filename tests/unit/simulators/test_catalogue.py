"""The catalogue and the page that describes it say the same."""

import re
from pathlib import Path

import simulators
from simulators.catalogue import DEVICE_MODELS, PROCESS_MODELS
from simulators.devices.contract import POWERED_OFF
from simulators.devices.opcua_contract import WIRE_DISTURBANCES


def test_the_readme_names_what_each_process_and_instrument_may_suffer():
    page = (Path(simulators.__file__).parent / "README.md").read_text(encoding="utf-8")
    table = page.split("## Events")[1].split("## ")[0]
    rows = dict(re.findall(r"\| `(\w+)` \| (.*) \|", table))
    stated = {name: set(re.findall(r"`(\w+)`", cell)) for name, cell in rows.items()}
    # Wires of a module are named by the first and the last.
    for name, cell in rows.items():
        if wires := re.fullmatch(r"`channel_(\d)_open` to `channel_(\d)_open`", cell):
            first, last = map(int, wires.groups())
            stated[name] = {f"channel_{n}_open" for n in range(first, last + 1)}
    known = {name: set(model.disturbances) for name, model in PROCESS_MODELS.items()}
    for name, model in DEVICE_MODELS.items():
        assert POWERED_OFF in model.disturbances
        known[name] = set(model.disturbances) - {POWERED_OFF}
        if model.speaks_opcua:  # what the wire does to all of them has a line of its own
            known[name] -= set(WIRE_DISTURBANCES)
    assert stated == {name: what for name, what in known.items() if what}


def test_an_instrument_measures_a_process_that_there_is():
    for model in DEVICE_MODELS.values():
        assert model.process_model in PROCESS_MODELS
