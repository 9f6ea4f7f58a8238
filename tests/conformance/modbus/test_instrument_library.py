"""Each profile of the library against its simulated instrument, on the wire of the field.

The process stands still while the driver reads, so what it brings must equal what the probes say.
"""

import math

import pytest

from simulators.catalogue import DEVICE_MODELS
from simulators.devices.contract import POWERED_OFF
from tests.conformance.modbus.library import CASES, functions_asked, stand


@pytest.mark.parametrize("name", CASES)
async def test_the_driver_reads_what_the_process_says(name, tmp_path):
    async with stand(name, tmp_path) as one:
        assert one.identity.mismatches == ()
        assert set(one.instrument.profile.identity) == {fact for fact, _ in one.identity.facts}
        read = await one.values()
        for tag, said in CASES[name].says.items():
            expected = said(one.process)
            if isinstance(expected, float):
                expected = pytest.approx(expected, rel=1e-6)
            assert read[tag] == expected, tag
    assert functions_asked(tmp_path) <= {3, 4}, "nothing else ever goes over the wire"


@pytest.mark.parametrize(
    "name", [name for name, case in CASES.items() if case.wire != "modbus-tcp"]
)
async def test_behind_a_gateway_the_same_profile_reads_over_tcp(name, tmp_path):
    async with stand(name, tmp_path, wire="modbus-tcp", run_s=5) as one:
        assert one.identity.mismatches == ()
        assert None not in (await one.values()).values()


@pytest.mark.parametrize(
    ("name", "setting", "fact"),
    [
        ("alicat-mc-modbus", {"flow_unit": 7}, "mass_flow_unit"),
        ("bronkhorst-modbus", {"capacity_unit": "ln/min"}, "capacity_unit"),
        ("adam-4018", {"type_code": 0x0F}, "channel_0_type_code"),
        ("hamilton-arc-do", {"in_mg_per_l": True}, "channel_1_unit"),
        ("lighthouse-remote", {"record_index": 0}, "record_index"),
    ],
)
async def test_an_instrument_that_is_set_otherwise_is_refused(name, setting, fact, tmp_path):
    async with stand(name, tmp_path, wire="modbus-tcp", device=setting, run_s=5) as one:
        assert any(words.startswith(f"{fact} is ") for words in one.identity.mismatches)


@pytest.mark.parametrize(
    ("name", "what", "tags"),
    [
        ("vaisala-hmp", "humidity_sensor_failed", ("relative_humidity", "dew_point", "enthalpy")),
        ("vaisala-hmdw110", "humidity_sensor_failed", ("relative_humidity", "frost_point")),
        ("vaisala-gmp252", "starting", ("co2",)),
        ("vaisala-hpp272", "sensor_failed", ("h2o2",)),
        ("eurotherm-2400", "sensor_break", ("process_value",)),
    ],
)
async def test_what_the_instrument_does_not_know_is_not_a_number(name, what, tags, tmp_path):
    async with stand(name, tmp_path, wire="modbus-tcp", run_s=5) as one:
        one.device.disturbances.begin(what)
        read = await one.values()
        assert all(math.isnan(read[tag]) for tag in tags)


async def test_a_changed_setting_makes_another_identity(tmp_path):
    async with stand("vaisala-hmdw110", tmp_path, wire="modbus-tcp", run_s=5) as one:
        one.device.disturbances.begin("settings_changed")
        assert (await one.driver.identify("vaisala-hmdw110")).facts != one.identity.facts


async def test_an_unused_thermocouple_reads_a_sentinel(tmp_path):
    async with stand("adam-4018", tmp_path, wire="modbus-tcp", run_s=5) as one:
        (group,) = one.instrument.groups
        frame = await one.driver.poll(group)
        known = [
            raw not in tag.sentinels for tag, raw in zip(group.tags, frame.values, strict=True)
        ]
        assert known == [True] * 3 + [False] * 5


@pytest.mark.parametrize(
    ("name", "of", "what", "tag", "value"),
    [
        ("alicat-mc-modbus", "device", "valve_held", "valve_held", True),
        ("alicat-mc-modbus", "device", "adc_error", "adc_error", True),
        ("thermo-tsx", "process", "door_open", "door_1_open", True),
        ("thermo-tsx", "process", "mains_failed", "power_failure", True),
        ("thermo-tsx", "device", "service_mode", "service_mode", True),
        ("eurotherm-2400", "device", "sensor_break", "sensor_break", True),
        ("vaisala-hmp", "device", "humidity_sensor_failed", "humidity_sensor_failure", True),
        ("vaisala-hmp", "device", "heater_failed", "sensor_heater_failure", True),
        ("vaisala-hmdw110", "device", "supply_voltage_out_of_range", "no_errors", 0),
        ("vaisala-gmp252", "device", "starting", "co2_not_ready", True),
        ("vaisala-hpp272", "device", "purging", "h2o2_locked_by_purge", True),
        ("vaisala-hpp272", "device", "sensor_failed", "h2o2_sensor_failure", True),
        ("lighthouse-remote", "device", "flow_fault", "flow_out_of_range", True),
        ("lighthouse-remote", "device", "laser_fault", "device_error", True),
        ("dwyer-ms2", "device", "sensor_failed", "sensor_operational", 0),
        ("hamilton-arc-do", "device", "cap_missing", "oxygen_error", True),
    ],
)
async def test_trouble_shows_in_the_tag_that_is_named_for_it(name, of, what, tag, value, tmp_path):
    async with stand(name, tmp_path, wire="modbus-tcp", run_s=5) as one:
        assert (await one.values())[tag] != value
        getattr(one, of).disturbances.begin(what)
        assert (await one.values())[tag] == value


@pytest.mark.parametrize("name", CASES)
def test_every_instrument_can_be_switched_off(name):
    assert POWERED_OFF in DEVICE_MODELS[name.replace("-", "_")].disturbances
