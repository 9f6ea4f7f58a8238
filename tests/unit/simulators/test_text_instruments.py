"""Instruments that speak in lines of text say what their manuals print, byte for byte."""

from random import Random

import pytest

from simulators.devices.adam_4015_ascii import Adam4015Ascii, Adam4015AsciiSettings
from simulators.devices.alicat_mc import ADC_ERROR, FLOW_UNAVAILABLE, AlicatMc, AlicatMcSettings
from simulators.devices.ami_186 import SWITCHED_TO_INCHES, Ami186, Ami186Settings
from simulators.devices.bronkhorst_propar import (
    REVERSE_FLOW,
    BronkhorstPropar,
    BronkhorstProparSettings,
)
from simulators.devices.cryoextra import CryoExtra, CryoExtraSettings
from simulators.devices.heracell import Heracell, HeracellSettings
from simulators.devices.huber_pb import PROBE_UNPLUGGED, HuberPb, HuberPbSettings
from simulators.devices.ismatec_reglo_icc import IsmatecRegloIcc, IsmatecRegloIccSettings
from simulators.devices.lakeshore_218 import LakeShore218, LakeShore218Settings
from simulators.devices.mettler_sics import (
    OVERLOAD,
    SWITCHED_TO_POUNDS,
    MettlerSics,
    MettlerSicsSettings,
)
from simulators.devices.sartorius_sbi import SartoriusSbi, SartoriusSbiSettings
from simulators.devices.watson_marlow import WatsonMarlow, WatsonMarlowSettings
from simulators.process.gas_supply import GasSupply, GasSupplySettings
from simulators.process.incubator import DOOR_OPEN, Incubator, IncubatorSettings


class Bag:
    """A bag on a scale with everything as a test wants it."""

    def __init__(self, mass_g=100.0, stable=True, running=True, rpm=220.0, ml=15.84, turns=0.0):
        self.mass_g, self.stable, self.pump_running = mass_g, stable, running
        self.pump_rpm, self.ml_per_turn, self.pump_turns = rpm, ml, turns


class Bath:
    set_point_c, bath_c, vessel_c, controlling = 37.0, -12.34, 36.6, True


class Freezer:
    top_c, rack_c, transfer_line_c, ambient_c, level_cm = -150.0, -190.0, 20.0, 21.5, 45.0


def gas(**keys) -> GasSupply:
    made = GasSupply(GasSupplySettings(**keys), Random(1))
    made._flow.value = keys.get("set_point_sccm", 50.0)
    made._temperature.value = 21.89
    return made


@pytest.mark.parametrize(
    ("mass_g", "stable", "line"),
    [(100.0, True, b"S S     100.00 g\r\n"), (99.87, False, b"S D      99.87 g\r\n")],
)
def test_the_balance_prints_as_its_manual_shows(mass_g, stable, line):
    balance = MettlerSics(MettlerSicsSettings(), Bag(mass_g, stable))
    assert balance.answer(b"SI") == line


def test_the_balance_knows_no_weight_when_it_moves_or_is_overloaded_and_refuses_to_be_changed():
    balance = MettlerSics(MettlerSicsSettings(), Bag(stable=False))
    assert balance.answer(b"S") == b"S I\r\n"
    assert balance.answer(b"Z") == b"Z I\r\n"
    assert balance.answer(b"nonsense") == b"ES\r\n"
    balance.disturbances.begin(SWITCHED_TO_POUNDS)
    assert balance.answer(b"SI") == b"S D     0.2205 lb\r\n"
    balance.disturbances.begin(OVERLOAD)
    assert balance.answer(b"SI") == b"S +\r\n"


def test_the_other_balance_leaves_the_unit_out_while_it_moves():
    bag = Bag(123.56)
    balance = SartoriusSbi(SartoriusSbiSettings(), bag)
    assert balance.answer(b"\x1bP") == b"N     +   123.56 g  \r\n"
    bag.stable = False
    assert balance.answer(b"\x1bP") == b"N     +   123.56    \r\n"
    short = SartoriusSbi(SartoriusSbiSettings(long_lines=False), bag)
    assert short.answer(b"\x1bP") == b"+   123.56    \r\n"
    assert len(short.answer(b"\x1bP")) == 16
    assert len(balance.answer(b"\x1bP")) == 22


def test_the_balance_prints_by_itself_five_times_a_second():
    balance = SartoriusSbi(SartoriusSbiSettings(auto_print=True), Bag(123.56))
    assert balance.unprompted() == b""
    balance.step(0.2)
    assert balance.unprompted() == b"N     +   123.56 g  \r\n"
    assert balance.unprompted() == b""


@pytest.mark.parametrize(
    ("settings", "bag", "line"),
    [
        (
            {"type": "620Du"},
            Bag(turns=1.0),
            b"620Du 15.84 620R 9.6MM 220.0 CW P/N 1 10982 1 !",
        ),
        (
            {"type": "505Di", "head": "505l", "tube": "1.6mm"},
            Bag(rpm=53.5, ml=0.7, turns=2.0),
            b"505Di 0.7 505l 1.6mm 53.5 CW P/N 1 2560 1 !",
        ),
        ({"type": "323Du"}, Bag(rpm=110.0), b"323Du 110 CW 1 !"),
    ],
)
def test_each_pump_states_what_its_manual_shows(settings, bag, line):
    assert WatsonMarlow(WatsonMarlowSettings(**settings), bag).answer(b"1RS") == line


def test_a_pump_answers_to_its_own_address_alone():
    pump = WatsonMarlow(WatsonMarlowSettings(address=3), Bag())
    assert pump.answer(b"1RS") == b""
    assert pump.answer(b"3ZY") == b"1\r"
    assert pump.answer(b"#ST") == b""
    channels = IsmatecRegloIcc(IsmatecRegloIccSettings(), Bag())
    assert channels.answer(b"1xD") == b"J\r\n"
    assert channels.answer(b"1H") == b"#\r\n"
    assert channels.answer(b"2xD") == b""


def test_the_thermostat_answers_in_hundredths_and_keeps_silent_about_what_it_has_not():
    unit = HuberPb(HuberPbSettings(), Bath())
    assert unit.answer(b"{M01****") == b"{S01FB2E\r\n"
    assert unit.answer(b"{M00****") == b"{S000E74\r\n"
    assert unit.answer(b"{M2D****") == b"{S2DFC18\r\n"
    assert unit.answer(b"{M59****") == b""
    assert unit.answer(b"{M000E74") == b""
    unit.disturbances.begin(PROBE_UNPLUGGED)
    assert unit.answer(b"{M3A****") == b"{S3AC504\r\n"


def incubator(**keys) -> Heracell:
    return Heracell(HeracellSettings(**keys), Incubator(IncubatorSettings(), Random(1)), 0.0)


def test_the_incubator_frames_as_its_manual_prints():
    made = incubator()
    assert made.answer(b"?:0001:00::c1") == b"!:0001:08:50111927:df\r"
    assert made.answer(b"?:0005:00::c5") == b"!:0005:02:?1:d7\r"
    assert made.answer(b"?:0001:00::00").startswith(b"!:0000:02:?0:")
    assert made.answer(b"?:2400:00::c6").startswith(b"!:2400:e0:01")
    assert len(made.answer(b"?:2400:00::c6")) == 10 + 224 + 1 + 2 + 1


def test_the_incubator_logs_every_minute_and_when_its_door_opens():
    made = incubator()
    made._process.disturbances.begin(DOOR_OPEN)
    made.step(1.0)
    assert made.answer(b"?:2400:00::c6")[10:12] == b"31"
    made._process.disturbances.end(DOOR_OPEN)
    made.step(1.0)
    assert made.answer(b"?:2400:00::c6")[10:12] == b"32"
    made.step(60.0)
    assert made.answer(b"?:2400:00::c6")[10:12] == b"01"


def test_some_incubators_have_a_crc_instead():
    # CRC-8/SMBUS of the digits 1 to 9 is 0xF4.
    assert incubator(crc=True)._checksum(b"123456789") == b"f4"
    assert incubator().answer(b"?:0001:00::f4").startswith(b"!:0000:02:?0:")


def test_the_level_is_in_the_unit_that_is_set():
    made = Ami186(Ami186Settings(), Freezer())
    assert (made.answer(b"level"), made.answer(b"UNIT")) == (b"45.0\r\n", b"C\r\n")
    made.disturbances.begin(SWITCHED_TO_INCHES)
    assert (made.answer(b"LEVEL"), made.answer(b"UNIT")) == (b"17.7\r\n", b"I\r\n")
    assert made.answer(b"HI=5") == b"-8\r\n"


def test_the_monitor_states_kelvin_and_what_is_wrong_with_an_input():
    made = LakeShore218(LakeShore218Settings(channels=("rack",)), Freezer())
    assert made.answer(b"*IDN?") == b"LSCI,MODEL218E,21EA4F,042109\r\n"
    assert made.answer(b"KRDG? 0").startswith(b"+083.15,+000.00,")
    assert made.answer(b"CRDG? 1") == b"-190.00\r\n"
    assert (made.answer(b"RDGST? 1"), made.answer(b"RDGST? 2")) == (b"000\r\n", b"128\r\n")
    assert made.answer(b"ALARM 1,1,1,5,5,5,0") == b""


def test_the_module_writes_sign_and_seven_characters_a_channel():
    made = Adam4015Ascii(Adam4015AsciiSettings(), Freezer())
    assert made.answer(b"#01") == b">-150.00-190.00+020.00+021.50+9999+9999\r"
    assert made.answer(b"$01M") == b"!014015\r"
    assert made.answer(b"%0102240600") == b"?01\r"
    assert made.answer(b"#02") == b""


def test_the_flow_controller_frames_as_it_was_captured():
    made = AlicatMc(AlicatMcSettings(), gas(set_point_sccm=78.95))
    assert made.answer(b"A") == b"A +014.62 +021.89 +079.36 +078.95 +078.95     N2\r"
    assert made.answer(b"ADCU 5") == b"A 12 SCCM\r"
    assert made.answer(b"AS 75.0") == b"?\r"
    assert made.answer(b"B") == b""
    made.disturbances.begin(FLOW_UNAVAILABLE)
    made.disturbances.begin(ADC_ERROR)
    assert made.answer(b"A").endswith(b" --- +078.95     N2 ADC\r")


def test_propar_answers_with_the_index_of_the_asker():
    made = BronkhorstPropar(BronkhorstProparSettings(), gas(set_point_sccm=250.0))
    # The manual's request of measure, and its answer at 50 %.
    assert made.answer(b":06030401210120") == b":06030201213E80\r\n"
    assert made.answer(b":06030421402140") == b":080302214043" + b"7A0000\r\n"
    assert made.answer(b":06030101213E80") == b""
    assert made.answer(b":06030409200920") == b":0403000404\r\n"
    made.disturbances.begin(REVERSE_FLOW)
    assert made.answer(b":06030401200120") == b":0603020120FEC0\r\n"


def test_the_freezer_controller_answers_what_is_public():
    made = CryoExtra(CryoExtraSettings(), Freezer())
    assert made.answer(b"*IDN?") == b"Controller, Software ver. 2.07\r\n"
    assert made.answer(b"CALVL?") == b"-000.5\r\n"
    assert made.answer(b"CODE?") == b""
