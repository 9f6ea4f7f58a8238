"""What follows from temperature and relative humidity of air at one atmosphere.

Formulas: saturation pressure over water after Magnus with the constants of Sonntag (1990); wet-bulb
temperature after Stull (2011), good to about 0.3 C between 5 and 99 %; the gas constant of water
vapour 461.5 J/(kg K); its mass per mass of dry air 0.622.
"""

import math

PRESSURE_PA = 101_325.0

_MAGNUS_PA, _MAGNUS_B, _MAGNUS_C = 611.2, 17.62, 243.12
_VAPOUR_J_PER_KG_K = 461.5
_MASS_RATIO = 0.622


def vapour_pressure_pa(temperature_c: float, relative_humidity_pct: float) -> float:
    """Partial pressure of water."""
    saturated = _MAGNUS_PA * math.exp(_MAGNUS_B * temperature_c / (_MAGNUS_C + temperature_c))
    return saturated * relative_humidity_pct / 100.0


def dew_point_c(temperature_c: float, relative_humidity_pct: float) -> float:
    """Where the water would condense; over water, also below zero."""
    share = math.log(vapour_pressure_pa(temperature_c, relative_humidity_pct) / _MAGNUS_PA)
    return _MAGNUS_C * share / (_MAGNUS_B - share)


def absolute_humidity_g_per_m3(temperature_c: float, relative_humidity_pct: float) -> float:
    """Mass of water per volume."""
    pressure_pa = vapour_pressure_pa(temperature_c, relative_humidity_pct)
    return 1000.0 * pressure_pa / (_VAPOUR_J_PER_KG_K * (temperature_c + 273.15))


def mixing_ratio_g_per_kg(temperature_c: float, relative_humidity_pct: float) -> float:
    """Mass of water per mass of dry air."""
    pressure_pa = vapour_pressure_pa(temperature_c, relative_humidity_pct)
    return 1000.0 * _MASS_RATIO * pressure_pa / (PRESSURE_PA - pressure_pa)


def enthalpy_kj_per_kg(temperature_c: float, relative_humidity_pct: float) -> float:
    """Per mass of dry air, zero at 0 C."""
    ratio = mixing_ratio_g_per_kg(temperature_c, relative_humidity_pct) / 1000.0
    return 1.006 * temperature_c + ratio * (2501.0 + 1.86 * temperature_c)


def wet_bulb_c(temperature_c: float, relative_humidity_pct: float) -> float:
    """What a moist thermometer in a draught shows."""
    humidity = relative_humidity_pct
    return (
        temperature_c * math.atan(0.151977 * math.sqrt(humidity + 8.313659))
        + math.atan(temperature_c + humidity)
        - math.atan(humidity - 1.676331)
        + 0.00391838 * math.pow(humidity, 1.5) * math.atan(0.023101 * humidity)
        - 4.686035
    )
