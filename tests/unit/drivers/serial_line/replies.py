"""Requests and replies as manuals print them, by profile and command: (sent, heard, parts).

The figures of the incubator's logger, the thermostat and the flow controllers are those of the
instruments' documentation; see ``source`` of each profile.
"""

RECORD = "010b01060f3700000177002800d40000"
LOGGER = f"!:2400:e0:{RECORD * 7}:"

EXAMPLES = {
    ("mettler-mt-sics", "weight"): (
        b"SI\r\n",
        b"S D      99.87 g\r\n",
        {"value": "99.87", "unit": "g"},
    ),
    ("mettler-mt-sics", "serial_number"): (b"I4\r\n", b'I4 A "B021"\r\n', {"value": "B021"}),
    ("sartorius-sbi", "print"): (
        b"\x1bP\r\n",
        b"N     +   123.56 g  \r\n",
        {"value": "+   123.56", "unit": "g  "},
    ),
    ("watson-marlow-620", "status"): (
        b"1RS\r",
        b"620Du 15.84 620R 9.6MM 220.0 CW P/N 1 123456789 1 !",
        {
            "type": "620Du",
            "ml_per_turn": "15.84",
            "rpm": "220.0",
            "tacho": "123456789",
            "running": "1",
        },
    ),
    ("watson-marlow-323", "status"): (
        b"1RS\r",
        b"323Du 110 CW 1 !",
        {"rpm": "110", "running": "1"},
    ),
    ("ismatec-reglo-icc", "direction"): (b"1xD\r", b"J\r\n", {"value": "J"}),
    ("huber-pb", "internal"): (b"{M01****\r\n", b"{S01FB2E\r\n", {"value": "FB2E"}),
    ("thermo-heracell-vios", "version"): (
        b"?:0001:00::c1\r",
        b"!:0001:08:50111927:df\r",
        {"value": "50111927"},
    ),
    ("ami-186", "level"): (b"LEVEL\r\n", b"45.0\r\n", {"value": "45.0"}),
    ("lakeshore-218", "identity"): (
        b"*IDN?\r\n",
        b"LSCI,MODEL218E,21EA4F,042109\r\n",
        {"model": "MODEL218E", "serial_number": "21EA4F"},
    ),
    ("adam-4015-ascii", "channels"): (
        b"#01\r",
        b">+025.12+020.45+012.78+018.97+003.24-015.35\r",
        {"channel_0": "+025.12", "channel_5": "-015.35"},
    ),
    ("alicat-mc", "poll"): (
        b"A\r",
        b"A +014.62 +021.89 +000.00 +000.00 +078.95     N2\r",
        {"pressure": "+014.62", "set_point": "+078.95", "gas": "N2", "flags": ""},
    ),
    ("alicat-mc", "mass_flow_unit"): (b"ADCU 5\r", b"A 12 SCCM\r", {"unit": "SCCM"}),
    ("bronkhorst-propar", "measure"): (
        b":06030401200120\r\n",
        b":06030201203E80\r\n",
        {"value": "3E80"},
    ),
    ("thermo-cryoextra", "level_offset"): (b"CALVL?\r\n", b"-000.5\r\n", {"value": "-000.5"}),
}
"""ProPar: the manual's example has the index 0x21 for this parameter; the index is the asker's."""

MORE = {
    ("alicat-mc", "poll"): (
        b"A +014.70 +023.45 +0050.0 +0050.0 +0050.0   Air MOV HLD\r",
        b"A +014.52 +021.50 +0000.1 +0000.2 0116.3      N2\r",
    ),
    ("sartorius-sbi", "print"): (b"+   123.56    \r\n", b"-     0.00 g  \r\n"),
    ("mettler-mt-sics", "weight"): (b"S S     100.00 g\r\n",),
    ("watson-marlow-620", "status"): (b"505Di 0.7 505l 1.6mm 53.5 CW P/N 1 157810 1 !",),
}
"""Further replies that fit."""
