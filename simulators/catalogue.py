"""Which models of processes and instruments a scenario may name, and how each is built."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from simulators.devices.adam_4015 import Adam4015, Adam4015Settings
from simulators.devices.adam_4015_ascii import Adam4015Ascii, Adam4015AsciiSettings
from simulators.devices.adam_4018 import Adam4018, Adam4018Settings
from simulators.devices.alicat_mc import AlicatMc, AlicatMcSettings
from simulators.devices.alicat_mc_modbus import AlicatMcModbus, AlicatMcModbusSettings
from simulators.devices.ami_186 import Ami186, Ami186Settings
from simulators.devices.barcode_scanner import BarcodeScanner, BarcodeScannerSettings
from simulators.devices.bronkhorst_modbus import BronkhorstModbus, BronkhorstModbusSettings
from simulators.devices.bronkhorst_propar import BronkhorstPropar, BronkhorstProparSettings
from simulators.devices.contract import ModbusDevice
from simulators.devices.cryoextra import CryoExtra, CryoExtraSettings
from simulators.devices.dwyer_ms2 import DwyerMs2, DwyerMs2Settings
from simulators.devices.eurotherm_2400 import Eurotherm2400, Eurotherm2400Settings
from simulators.devices.hamilton_arc_do import HamiltonArcDo, HamiltonArcDoSettings
from simulators.devices.hamilton_arc_ph import HamiltonArcPh, HamiltonArcPhSettings
from simulators.devices.heracell import Heracell, HeracellSettings
from simulators.devices.huber_pb import HuberPb, HuberPbSettings
from simulators.devices.ismatec_reglo_icc import IsmatecRegloIcc, IsmatecRegloIccSettings
from simulators.devices.lads_bioreactor import LadsBioreactor, LadsBioreactorSettings
from simulators.devices.lads_cell_processor import LadsCellProcessor, LadsCellProcessorSettings
from simulators.devices.lads_ult_freezer import LadsUltFreezer, LadsUltFreezerSettings
from simulators.devices.lakeshore_218 import LakeShore218, LakeShore218Settings
from simulators.devices.lighthouse_remote import LighthouseRemote, LighthouseRemoteSettings
from simulators.devices.met_one_6000 import MetOne6000, MetOne6000Settings
from simulators.devices.mettler_sics import MettlerSics, MettlerSicsSettings
from simulators.devices.opcua_contract import OpcUaDevice
from simulators.devices.packml_filler import PackmlFiller, PackmlFillerSettings
from simulators.devices.pms_airnet_2 import PmsAirnet2, PmsAirnet2Settings
from simulators.devices.sartorius_sbi import SartoriusSbi, SartoriusSbiSettings
from simulators.devices.text_contract import TextDevice
from simulators.devices.thermo_tsx import ThermoTsx, ThermoTsxSettings
from simulators.devices.vaisala_gmp252 import VaisalaGmp252, VaisalaGmp252Settings
from simulators.devices.vaisala_hmdw110 import VaisalaHmdw110, VaisalaHmdw110Settings
from simulators.devices.vaisala_hmp import VaisalaHmp, VaisalaHmpSettings
from simulators.devices.vaisala_hpp272 import VaisalaHpp272, VaisalaHpp272Settings
from simulators.devices.watson_marlow import WatsonMarlow, WatsonMarlowSettings
from simulators.disturbance import Stepped
from simulators.process.bioreactor import Bioreactor, BioreactorSettings
from simulators.process.cell_processing import CellProcessing, CellProcessingSettings
from simulators.process.clean_room import CleanRoom, CleanRoomSettings
from simulators.process.controlled_rate_freezer import (
    ControlledRateFreezer,
    ControlledRateFreezerSettings,
)
from simulators.process.formulation import Formulation, FormulationSettings
from simulators.process.gas_supply import GasSupply, GasSupplySettings
from simulators.process.incubator import Incubator, IncubatorSettings
from simulators.process.isolator import Isolator, IsolatorSettings
from simulators.process.ln2_freezer import Ln2Freezer, Ln2FreezerSettings
from simulators.process.thermostat import Thermostat, ThermostatSettings
from simulators.process.ult_freezer import UltFreezer, UltFreezerSettings
from simulators.process.vial_filling import VialFilling, VialFillingSettings
from simulators.wire.modbus_ascii import ASCII
from simulators.wire.modbus_rtu import RTU


@dataclass(frozen=True, slots=True)
class ProcessModel:
    """One model of a process."""

    settings: type[Any]
    build: Callable[[Any, Random], Stepped]
    disturbances: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DeviceModel:
    """One make and model of an instrument."""

    settings: type[Any]
    process_model: str
    """The model of the process that this instrument measures."""
    build: Callable[[Any, Any, Random, float], ModbusDevice | TextDevice | OpcUaDevice]
    """From its settings, its process, a generator of its own and the UTC at the start."""
    disturbances: tuple[str, ...]
    speaks_text: bool = False
    """Whether it speaks in lines of text, not Modbus."""
    speaks_opcua: bool = False
    """Whether it is a device of an OPC UA server."""


PROCESS_MODELS = {
    "clean_room": ProcessModel(CleanRoomSettings, CleanRoom, CleanRoom.DISTURBANCES),
    "bioreactor": ProcessModel(BioreactorSettings, Bioreactor, Bioreactor.DISTURBANCES),
    "ln2_freezer": ProcessModel(Ln2FreezerSettings, Ln2Freezer, Ln2Freezer.DISTURBANCES),
    "formulation": ProcessModel(FormulationSettings, Formulation, Formulation.DISTURBANCES),
    "thermostat": ProcessModel(ThermostatSettings, Thermostat, Thermostat.DISTURBANCES),
    "incubator": ProcessModel(IncubatorSettings, Incubator, Incubator.DISTURBANCES),
    "gas_supply": ProcessModel(GasSupplySettings, GasSupply, GasSupply.DISTURBANCES),
    "ult_freezer": ProcessModel(UltFreezerSettings, UltFreezer, UltFreezer.DISTURBANCES),
    "controlled_rate_freezer": ProcessModel(
        ControlledRateFreezerSettings, ControlledRateFreezer, ControlledRateFreezer.DISTURBANCES
    ),
    "cell_processing": ProcessModel(
        CellProcessingSettings, CellProcessing, CellProcessing.DISTURBANCES
    ),
    "vial_filling": ProcessModel(VialFillingSettings, VialFilling, VialFilling.DISTURBANCES),
    "isolator": ProcessModel(IsolatorSettings, Isolator, Isolator.DISTURBANCES),
}


def _modbus(settings: type[Any], process_model: str, device: Any) -> DeviceModel:
    """A model that needs neither chance nor the date."""
    return DeviceModel(
        settings,
        process_model,
        lambda settings, process, rng, start_utc_s: device(settings, process),
        device.DISTURBANCES,
    )


def _text(settings: type[Any], process_model: str, device: Any) -> DeviceModel:
    """A model that needs neither chance nor the date."""
    return DeviceModel(
        settings,
        process_model,
        lambda settings, process, rng, start_utc_s: device(settings, process),
        device.DISTURBANCES,
        speaks_text=True,
    )


def _opcua(settings: type[Any], process_model: str, device: Any) -> DeviceModel:
    """A model that needs neither chance nor the date."""
    return DeviceModel(
        settings,
        process_model,
        lambda settings, process, rng, start_utc_s: device(settings, process),
        device.DISTURBANCES,
        speaks_opcua=True,
    )


DEVICE_MODELS = {
    "met_one_6000": DeviceModel(
        MetOne6000Settings, "clean_room", MetOne6000, MetOne6000.DISTURBANCES
    ),
    "hamilton_arc_ph": DeviceModel(
        HamiltonArcPhSettings,
        "bioreactor",
        lambda settings, process, rng, start_utc_s: HamiltonArcPh(settings, process),
        HamiltonArcPh.DISTURBANCES,
    ),
    "adam_4015": DeviceModel(
        Adam4015Settings,
        "ln2_freezer",
        lambda settings, process, rng, start_utc_s: Adam4015(settings, process),
        Adam4015.DISTURBANCES,
    ),
    "adam_4018": _modbus(Adam4018Settings, "controlled_rate_freezer", Adam4018),
    "alicat_mc_modbus": _modbus(AlicatMcModbusSettings, "gas_supply", AlicatMcModbus),
    "bronkhorst_modbus": _modbus(BronkhorstModbusSettings, "gas_supply", BronkhorstModbus),
    "dwyer_ms2": _modbus(DwyerMs2Settings, "clean_room", DwyerMs2),
    "eurotherm_2400": _modbus(Eurotherm2400Settings, "controlled_rate_freezer", Eurotherm2400),
    "hamilton_arc_do": _modbus(HamiltonArcDoSettings, "bioreactor", HamiltonArcDo),
    "lighthouse_remote": DeviceModel(
        LighthouseRemoteSettings, "clean_room", LighthouseRemote, LighthouseRemote.DISTURBANCES
    ),
    "pms_airnet_2": DeviceModel(
        PmsAirnet2Settings, "clean_room", PmsAirnet2, PmsAirnet2.DISTURBANCES
    ),
    "thermo_tsx": _modbus(ThermoTsxSettings, "ult_freezer", ThermoTsx),
    "vaisala_gmp252": _modbus(VaisalaGmp252Settings, "incubator", VaisalaGmp252),
    "vaisala_hmdw110": _modbus(VaisalaHmdw110Settings, "clean_room", VaisalaHmdw110),
    "vaisala_hmp": _modbus(VaisalaHmpSettings, "clean_room", VaisalaHmp),
    "vaisala_hpp272": _modbus(VaisalaHpp272Settings, "isolator", VaisalaHpp272),
    "heracell": DeviceModel(
        HeracellSettings,
        "incubator",
        lambda settings, process, rng, start_utc_s: Heracell(settings, process, start_utc_s),
        Heracell.DISTURBANCES,
        speaks_text=True,
    ),
    "lads_bioreactor": DeviceModel(
        LadsBioreactorSettings,
        "bioreactor",
        lambda settings, process, rng, start_utc_s: LadsBioreactor(settings, process, rng),
        LadsBioreactor.DISTURBANCES,
        speaks_opcua=True,
    ),
    "lads_cell_processor": DeviceModel(
        LadsCellProcessorSettings,
        "cell_processing",
        lambda settings, process, rng, start_utc_s: LadsCellProcessor(
            settings, process, start_utc_s
        ),
        LadsCellProcessor.DISTURBANCES,
        speaks_opcua=True,
    ),
    "lads_ult_freezer": _opcua(LadsUltFreezerSettings, "ult_freezer", LadsUltFreezer),
    "packml_filler": _opcua(PackmlFillerSettings, "vial_filling", PackmlFiller),
    "mettler_sics": _text(MettlerSicsSettings, "formulation", MettlerSics),
    "sartorius_sbi": _text(SartoriusSbiSettings, "formulation", SartoriusSbi),
    "watson_marlow": _text(WatsonMarlowSettings, "formulation", WatsonMarlow),
    "ismatec_reglo_icc": _text(IsmatecRegloIccSettings, "formulation", IsmatecRegloIcc),
    "barcode_scanner": _text(BarcodeScannerSettings, "formulation", BarcodeScanner),
    "huber_pb": _text(HuberPbSettings, "thermostat", HuberPb),
    "lakeshore_218": _text(LakeShore218Settings, "ln2_freezer", LakeShore218),
    "adam_4015_ascii": _text(Adam4015AsciiSettings, "ln2_freezer", Adam4015Ascii),
    "ami_186": _text(Ami186Settings, "ln2_freezer", Ami186),
    "cryoextra": _text(CryoExtraSettings, "ln2_freezer", CryoExtra),
    "alicat_mc": _text(AlicatMcSettings, "gas_supply", AlicatMc),
    "bronkhorst_propar": _text(BronkhorstProparSettings, "gas_supply", BronkhorstPropar),
}

SERIAL_KINDS = {"modbus-rtu": RTU, "modbus-ascii": ASCII}
TEXT_KIND = "serial-text"
LINE_KINDS = (*SERIAL_KINDS, TEXT_KIND)
OPCUA_KIND = "opcua"
WIRE_KINDS = ("modbus-tcp", *LINE_KINDS, OPCUA_KIND)
