"""From the units that a server states to UCUM; what is not known for sure is never guessed.

A UNECE code (Recommendation 20) of up to four characters stands in the UnitId, a character in
each byte (OPC 10000-8 section 5.6.4.3).
"""

from dataclasses import dataclass

from drivers.opcua.discover.model import Facts, Units

UNVERIFIED = "{unverified}"
"""UCUM's annotation of a number whose unit nobody has verified."""

_UNECE = ("http://www.opcfoundation.org/UA/units/un/cefact", "http://unece.org/units")

UCUM = {
    # temperature
    "CEL": "Cel", "KEL": "K", "FAH": "[degF]",
    # time, frequency
    "B98": "us", "C26": "ms", "SEC": "s", "MIN": "min", "HUR": "h", "DAY": "d", "HTZ": "Hz",
    "KHZ": "kHz", "MHZ": "MHz", "RPM": "/min", "RPS": "/s",
    # length, area, volume
    "MTR": "m", "CMT": "cm", "MMT": "mm", "4H": "um", "C45": "nm", "INH": "[in_i]",
    "MTK": "m2", "CMK": "cm2", "MTQ": "m3", "CMQ": "cm3", "LTR": "L", "MLT": "mL", "4G": "uL",
    # mass
    "KGM": "kg", "GRM": "g", "MGM": "mg", "MC": "ug",
    # pressure
    "PAL": "Pa", "A97": "hPa", "KPA": "kPa", "MPA": "MPa", "74": "mPa", "BAR": "bar",
    "MBR": "mbar", "PS": "[psi]",
    # flow, speed
    "MTS": "m/s", "KMH": "km/h", "MSK": "m/s2", "KGS": "kg/s", "MQH": "m3/h", "MQS": "m3/s",
    "G53": "m3/min", "2J": "cm3/s", "L2": "L/min",
    # electricity, energy
    "VLT": "V", "2Z": "mV", "KVT": "kV", "AMP": "A", "4K": "mA", "OHM": "Ohm", "WTT": "W",
    "KWT": "kW", "MAW": "MW", "JOU": "J", "KJO": "kJ", "KWH": "kW.h", "FAR": "F", "D10": "S/m",
    # amount, concentration, proportion
    "C34": "mol", "C18": "mmol", "GL": "g/L", "M1": "mg/L", "P1": "%", "59": "[ppm]",
    "Q30": "[pH]",
    # others
    "NEW": "N", "LUX": "lx", "DD": "deg", "C81": "rad", "C62": "1",
}  # fmt: skip
"""UCUM codes by UNECE code."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What a draft says of a tag's unit.

    :ivar doubt: why a person must look; empty where the server states it beyond doubt
    """

    ucum: str
    doubt: str = ""


def code(unit_id: int) -> str:
    """Return the UNECE code in a UnitId, empty where there is none."""
    if unit_id <= 0 or unit_id >= 2**32:
        return ""
    packed = unit_id.to_bytes(4, "big").lstrip(b"\0")
    text = packed.decode("ascii", "replace")
    return text if text.isalnum() else ""


def unit_of(facts: Facts, *, is_duration: bool, needs_unit: bool) -> Unit:
    """Return the unit of a number.

    :param is_duration: its data type is Duration, which is in milliseconds (OPC 10000-3 8.13)
    :param needs_unit: the number measures something; otherwise it counts or names
    """
    stated = facts.units
    if stated is not None:
        known = UCUM.get(code(stated.unit_id)) if stated.namespace in _UNECE else None
        return Unit(known) if known else Unit(UNVERIFIED, _doubt(stated))
    if is_duration:
        return Unit("ms")
    if needs_unit:
        return Unit(UNVERIFIED, "unit unverified: the server states none")
    return Unit("1")


def _doubt(stated: Units) -> str:
    said = f"the server calls it {stated.display!r}" if stated.display else "it has no name"
    return f"unit unverified: {said}, its UnitId is {stated.unit_id}"
