"""For each kind of bad input one clear line: file, line, key, what is wrong, how to mend it.

Method: a sound site is spoilt in one place; the lines are compared to the letter.
"""

import pytest

from edgeagent.configure import document
from edgeagent.configure.document import parse_document, read_document
from edgeagent.configure.plan import shipped_profiles
from tests.unit.configure.site import PROFILE, SITE, changed

DURATION = "is no duration; write a number and a unit, e.g. '500 ms', '1 s', '5 min'"
KEYS = "write 'key: value' lines below it"
NO_NAME = "is no name; use lower-case letters, digits, - and _"
SYNTAX = "mend the syntax on this line or the one above"
TYPES = (
    "give 'BOOL', 'INT8', 'UINT8', 'INT16', 'UINT16', 'INT32', 'UINT32', 'INT64', 'UINT64', "
    "'FLOAT32', 'FLOAT64' or 'STRING'"
)
PROFILE_KEYS = (
    "known here: profile, version, make, model, device_class, driver, source, draft, "
    "identity, identity_unavailable, clock, groups"
)
WEIGHT = "profiles/acme-b200.yaml:15: groups.weight.tags.weight"
BROKER = "  url: mqtt://broker"
HOST = "    host: 10.0.0.7"
ADDRESS = "    address: 1"
LINKS = "links:\n  gateway:\n    driver: fake\n    host: 10.0.0.7\n"
SHIPPED = ", ".join(sorted(shipped_profiles()))


def test_a_sound_site_has_no_fault(files):
    assert files.faults() == []
    plan = files.plan()
    assert [link.name for link in plan.links] == ["gateway"]
    assert [str(group) for group in plan.groups] == ["probe-1/weight"]
    assert plan.settings.state_dir == files.directory / "state"


IN_THE_SITE_FILE = {
    "tab": (
        BROKER, "\turl: mqtt://broker",
        "site.yaml:5: is no valid YAML: found character '\\t' that cannot start any token; "
        "indent with spaces, not with tabs",
    ),
    "indent": (
        HOST, "   host: 10.0.0.7",
        "site.yaml:9: is no valid YAML: expected <block end>, but found '<block mapping start>' "
        f"(while parsing a block mapping, line 7); {SYNTAX}",
    ),
    "open bracket": (
        "[profiles]", "[profiles",
        "site.yaml:4: is no valid YAML: expected ',' or ']', but got ':' "
        f"(while parsing a flow sequence, line 3); {SYNTAX}",
    ),
    "open quote": (
        "mqtt://broker", '"mqtt://broker',
        "site.yaml:15: is no valid YAML: found unexpected end of stream "
        f"(while scanning a quoted scalar, line 5); {SYNTAX}",
    ),
    "unknown alias": (
        "10.0.0.7", "*nowhere",
        f"site.yaml:9: is no valid YAML: found undefined alias 'nowhere'; {SYNTAX}",
    ),
    "duplicate key": (
        HOST, f"{HOST}\n    host: 10.0.0.8",
        "site.yaml:10: host: this key stands here twice; rename or remove one of the two",
    ),
    "duplicate instrument": (
        ADDRESS, f"{ADDRESS}\n  probe-1:\n    profile: acme-b200",
        "site.yaml:15: probe-1: this key stands here twice; rename or remove one of the two",
    ),
    "unknown key": (
        "state_dir: state", "state_dir: state\nprofil_dirs: [x]",
        "site.yaml:3: profil_dirs: unknown key; did you mean profile_dirs?",
    ),
    "unknown key below": (
        BROKER, f"{BROKER}\n  usrname: x",
        "site.yaml:6: broker.usrname: unknown key; did you mean username?",
    ),
    "password in the file": (
        BROKER, f"{BROKER}\n  password: hunter2",
        "site.yaml:6: broker.password: unknown key; did you mean password_file?",
    ),
    "unknown key like no other": (
        BROKER, f"{BROKER}\n  zzzzz: x",
        "site.yaml:6: broker.zzzzz: unknown key; remove it; known here: url, version, client_id, "
        "username, password_file, ca_file, certificate_file, key_file, keepalive",
    ),
    "unknown key of a link": (
        HOST, f"{HOST}\n    prot: 5",
        "site.yaml:10: links.gateway.prot: unknown key; did you mean port?",
    ),
    "unknown key of an instrument": (
        ADDRESS, f"{ADDRESS}\n    serial_numbr: x",
        "site.yaml:15: instruments.probe-1.serial_numbr: unknown key; did you mean serial_number?",
    ),
    "unknown key of an instrument's driver": (
        ADDRESS, f"{ADDRESS}\n    adress: 2",
        "site.yaml:15: instruments.probe-1.adress: unknown key; did you mean address?",
    ),
    "misspelt key that is needed": (
        "state_dir", "state_dr",
        "site.yaml:1: state_dir: is missing; add state_dir",
        "site.yaml:2: state_dr: unknown key; did you mean state_dir?",
    ),
    "number for a text": (
        "site: berlin-1", "site: 7", "site.yaml:1: site: wrong value 7; put it in quotes",
    ),
    "number for a serial number": (
        ADDRESS, f"{ADDRESS}\n    serial_number: 12345",
        "site.yaml:15: instruments.probe-1.serial_number: wrong value 12345; put it in quotes",
    ),
    "text for a number": (
        "address: 1", "address: one",
        "site.yaml:14: instruments.probe-1.address: wrong value 'one'; give a whole number",
    ),
    "half a number": (
        "address: 1", "address: 1.5",
        "site.yaml:14: instruments.probe-1.address: wrong value 1.5; give a whole number",
    ),
    "number too large": (
        "address: 1", "address: 300",
        "site.yaml:14: instruments.probe-1.address: wrong value 300; give at most 247",
    ),
    "no value": (
        "address: 1", "address:",
        "site.yaml:14: instruments.probe-1.address: has no value; give a whole number",
    ),
    "no path": (
        "state_dir: state", "state_dir:", "site.yaml:2: state_dir: has no value; give a path",
    ),
    "text for a list": (
        "[profiles]", "profiles",
        "site.yaml:3: profile_dirs: wrong value 'profiles'; give a list, e.g. [a, b]",
    ),
    "one of a few": (
        BROKER, f"{BROKER}\n  version: 5",
        "site.yaml:6: broker.version: wrong value 5; give '5' or '3.1.1'",
    ),
    "nothing below": (
        "broker:\n  url: mqtt://broker", "broker:",
        f"site.yaml:4: broker: has no value; {KEYS}",
    ),
    "list for keys": (
        ADDRESS, f"{ADDRESS}\n    groups: [weight]",
        f"site.yaml:15: instruments.probe-1.groups: has a wrong form; {KEYS}",
    ),
    "missing key": ("site: berlin-1\n", "", "site.yaml:1: site: is missing; add site"),
    "missing key below": (
        "broker:\n  url: mqtt://broker", "broker: {}",
        "site.yaml:4: broker.url: is missing; add url",
    ),
    "missing key of a link's driver": (
        f"{HOST}\n", "", "site.yaml:7: links.gateway.host: is missing; add host",
    ),
    "missing key of an instrument's driver": (
        f"{ADDRESS}\n", "", "site.yaml:11: instruments.probe-1.address: is missing; add address",
    ),
    "missing driver": (
        "    driver: fake\n", "", "site.yaml:7: links.gateway.driver: is missing; add driver",
    ),
    "missing profile": (
        "    profile: acme-b200\n", "",
        "site.yaml:11: instruments.probe-1.profile: is missing; add profile",
    ),
    "no links": (
        LINKS, "links: {}\n",
        "site.yaml:6: links: is empty; give at least one",
        "site.yaml:10: instruments.probe-1.link: no link 'gateway'; add it below links",
    ),
    "bad name": ("berlin-1", "Berlin 1", f"site.yaml:1: site: 'Berlin 1' {NO_NAME}"),
    "bad name of an instrument": (
        "  probe-1:", "  Probe 1:",
        f"site.yaml:11: instruments.Probe 1: 'Probe 1' {NO_NAME}",
    ),
    "bad topic root": (
        BROKER, f"{BROKER}\ntopic_root: /a/#",
        "site.yaml:6: topic_root: '/a/#' has a form that is not allowed; "
        "it must match ^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$",
    ),
    "unknown profile": (
        "profile: acme-b200", "profile: acme-b201",
        "site.yaml:12: instruments.probe-1.profile: no profile 'acme-b201'; "
        f"use one of: acme-b200, {SHIPPED}",
    ),
    "unknown driver": (
        "driver: fake", "driver: fakw",
        "site.yaml:8: links.gateway.driver: no driver 'fakw'; installed: fake, other",
    ),
    "unknown link": (
        "link: gateway", "link: gatway",
        "site.yaml:13: instruments.probe-1.link: no link 'gatway'; use one of: gateway",
    ),
    "driver of another kind": (
        "driver: fake", "driver: other",
        "site.yaml:13: instruments.probe-1.link: acme-b200 speaks fake, link gateway other; "
        "put it on a link with driver: fake",
    ),
    "unknown group": (
        ADDRESS, f"{ADDRESS}\n    groups: {{wieght: {{period: 2 s}}}}",
        "site.yaml:15: instruments.probe-1.groups.wieght: profile has no group 'wieght'; "
        "use one of: weight",
    ),
    "critical tag that is not read": (
        ADDRESS, f"{ADDRESS}\n    critical: [weight, wieght]",
        "site.yaml:15: instruments.probe-1.critical[1]: no tag 'wieght' is read; "
        "use one of: weight",
    ),
    "budget without unit": (
        BROKER, f"{BROKER}\njournal:\n  budget: 20",
        "site.yaml:7: journal.budget: 20 is no size; write a number and a unit, e.g. '64 MB', "
        "'20 GB', '512 MiB'",
    ),
    "budget too small for the reserve": (
        BROKER, f"{BROKER}\njournal:\n  budget: 100 MB",
        "site.yaml:6: journal: budget is less than twice the reserve; raise budget",
    ),
    "period without unit": (
        ADDRESS, f"{ADDRESS}\n    groups: {{weight: {{period: 2}}}}",
        f"site.yaml:15: instruments.probe-1.groups.weight.period: 2 {DURATION}",
    ),
    "two links to one end": (
        "instruments:", "  other: {driver: fake, host: 10.0.0.7}\ninstruments:",
        "site.yaml:10: links.other: leads to 10.0.0.7:502, as link gateway does; "
        "put their instruments on one link",
    ),
    "two instruments with one address": (
        ADDRESS, f"{ADDRESS}\n  probe-2: {{profile: acme-b200, link: gateway, address: 1}}",
        "site.yaml:15: instruments.probe-2: has address 1, as probe-1 has; "
        "give each its own address, or its own link",
    ),
    "no directory": (
        "[profiles]", "[profiles, profils]",
        "site.yaml:3: profile_dirs[1]: no directory profils; correct the path",
    ),
    "no password file": (
        BROKER, f"{BROKER}\n  username: me\n  password_file: pw",
        "site.yaml:7: broker.password_file: no file pw; create it or correct the path",
    ),
    "address without scheme": (
        "mqtt://broker", "broker:1883",
        "site.yaml:5: broker.url: 'broker:1883' is no broker address; "
        "write e.g. mqtts://broker.example:8883",
    ),
    "half a pair": (
        BROKER, "  url: mqtts://broker\n  key_file: k",
        "site.yaml:4: broker: certificate_file and key_file go together; add the other one",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", IN_THE_SITE_FILE)
def test_in_the_site_file(files, case):
    old, new, *lines = IN_THE_SITE_FILE[case]
    files.site.write_text(changed(SITE, old, new))
    assert files.faults() == lines


IN_A_PROFILE = {
    "no YAML": (
        "make: Acme", "make: [Acme",
        "profiles/acme-b200.yaml:4: is no valid YAML: expected ',' or ']', but got ':' "
        f"(while parsing a flow sequence, line 3); {SYNTAX}",
    ),
    "duplicate key": (
        "make: Acme", "make: Acme\nmake: Acme",
        "profiles/acme-b200.yaml:4: make: this key stands here twice; "
        "rename or remove one of the two",
    ),
    "unknown key": (
        "make: Acme", "make: Acme\ncolour: red",
        f"profiles/acme-b200.yaml:4: colour: unknown key; remove it; {PROFILE_KEYS}",
    ),
    "unknown key of a tag": (
        "channel: 1", "channel: 1, chanel: 2",
        f"{WEIGHT}.chanel: unknown key; did you mean channel?",
    ),
    "unknown key of an identity item": (
        "serial_number: {}", "serial_number: {expct: x}",
        "profiles/acme-b200.yaml:10: identity.serial_number.expct: unknown key; "
        "did you mean expect?",
    ),
    "missing type": ("type: FLOAT32, ", "", f"{WEIGHT}.type: is missing; add type"),
    "unknown type": ("FLOAT32", "FLOAT23", f"{WEIGHT}.type: wrong value 'FLOAT23'; {TYPES}"),
    "no driver": (
        "driver: fake\n", "",
        "profiles/acme-b200.yaml:1: driver: is missing; installed: fake, other",
    ),
    "unknown driver": (
        "driver: fake", "driver: spi",
        "profiles/acme-b200.yaml:6: driver: no driver 'spi'; installed: fake, other",
    ),
    "another name than its file": (
        "profile: acme-b200", "profile: acme-b300",
        "profiles/acme-b200.yaml:1: profile: is 'acme-b300' in a file named acme-b200; "
        "write acme-b200",
    ),
    "number for a version": (
        "1.0.0", "1.0", "profiles/acme-b200.yaml:2: version: wrong value 1.0; put it in quotes",
    ),
    "period without unit": (
        "1 s", "1", f"profiles/acme-b200.yaml:13: groups.weight.period: 1 {DURATION}",
    ),
    "range upside down": (
        "unit: g", "unit: g, range: {low: 5, high: 1}",
        f"{WEIGHT}.range: low 5.0 is not below high 1.0; exchange them",
    ),
    "range without end": (
        "unit: g", "unit: g, range: {low: 5, high: .inf}",
        f"{WEIGHT}.range.high: wrong value inf; give a finite number",
    ),
    "range of one number": (
        "unit: g", "unit: g, range: 5", f"{WEIGHT}.range: wrong value 5; {KEYS}",
    ),
    "scale in words": (
        "unit: g", "unit: g, scale: ten",
        f"{WEIGHT}.scale: 'ten' is no number; write e.g. 0.1 or 400/65536",
    ),
    "scale of a bit": (
        "FLOAT32", "BOOL, scale: 2",
        f"{WEIGHT}: a BOOL has no scale, offset or range; remove it",
    ),
    "no sentinel": (
        "unit: g", "unit: g, sentinels: [null, 3]",
        f"{WEIGHT}.sentinels[0]: has no value; give a whole number",
    ),
    "pseudonyms": (
        "FLOAT32", "STRING, privacy: pseudonym",
        f"{WEIGHT}: privacy 'pseudonym' needs a driver that offers it; use 'none' or 'drop'",
    ),
    "no tags": (
        "\n      weight: {type: FLOAT32, channel: 1, unit: g}", " {}",
        "profiles/acme-b200.yaml:14: groups.weight.tags: is empty; give at least one",
    ),
    "unknown confidence": (
        "documented", "sure",
        "profiles/acme-b200.yaml:8: source[0].confidence: wrong value 'sure'; "
        "give 'documented', 'third-party', 'assumed' or 'simulated-only'",
    ),
    "no identity": (
        "identity:\n  serial_number: {}\n", "",
        "profiles/acme-b200.yaml:1: says not how it is identified; state identity items, or say in "
        "identity_unavailable why there are none",
    ),
    "bad name of a tag": (
        "      weight:", "      Weight One:",
        f"profiles/acme-b200.yaml:15: groups.weight.tags.Weight One: 'Weight One' {NO_NAME}",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", IN_A_PROFILE)
def test_in_a_profile(files, case):
    old, new, *lines = IN_A_PROFILE[case]
    files.profile.write_text(changed(PROFILE, old, new))
    assert files.faults() == lines


def test_all_faults_at_once_over_all_files(files):
    text = changed(SITE, "site: berlin-1", "site: Berlin 1\ncolour: red")
    text = changed(text, "mqtt://broker", "broker")
    text = changed(text, "    host: 10.0.0.7\n", "")
    text = changed(text, "    address: 1", "    address: one\n    serial_number: 5")
    text += "  probe-2: {profile: acme-b201, link: gate, address: 2}\n"
    files.site.write_text(text)
    files.profile.write_text(changed(changed(PROFILE, "1 s", "1"), "FLOAT32", "FLOAT3"))
    assert files.faults() == [
        f"profiles/acme-b200.yaml:13: groups.weight.period: 1 {DURATION}",
        f"{WEIGHT}.type: wrong value 'FLOAT3'; {TYPES}",
        f"site.yaml:1: site: 'Berlin 1' {NO_NAME}",
        "site.yaml:2: colour: unknown key; remove it; known here: site, enterprise, state_dir, "
        "pki, topic_root, profile_dirs, broker, stream, journal, control, links, instruments",
        "site.yaml:6: broker.url: 'broker' is no broker address; "
        "write e.g. mqtts://broker.example:8883",
        "site.yaml:8: links.gateway.host: is missing; add host",
        "site.yaml:15: instruments.probe-1.serial_number: wrong value 5; put it in quotes",
        "site.yaml:16: instruments.probe-2.link: no link 'gate'; use one of: gateway",
        "site.yaml:16: instruments.probe-2.profile: no profile 'acme-b201'; "
        f"use one of: acme-b200, {SHIPPED}",
    ]


def test_one_profile_of_many_instruments_is_reported_once(files):
    files.site.write_text(SITE + "  probe-2: {profile: acme-b200, link: gateway, address: 2}\n")
    files.profile.write_text(changed(PROFILE, "FLOAT32", "FLOAT3"))
    assert len(files.faults()) == 1


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "site.yaml:1: holds no keys; write 'key: value' lines"),
        (b"# only words\n", "site.yaml:1: holds no keys; write 'key: value' lines"),
        (b"- a\n- b\n", "site.yaml:1: holds no keys; write 'key: value' lines"),
        (b"hello\n", "site.yaml:1: holds no keys; write 'key: value' lines"),
        (b"site: \xff\n", "site.yaml: is not UTF-8 (invalid start byte); save it as UTF-8"),
        (
            b"site: \x00\n",
            "site.yaml: is no valid YAML: unacceptable character #x0000: special characters are "
            "not allowed; mend the syntax",
        ),
        (b"a: " + b"[" * 1000, "site.yaml: is nested too deeply; write fewer levels"),
        (
            b"a: 1\n---\nb: 2\n",
            "site.yaml:2: is no valid YAML: but found another document (expected a single "
            f"document in the stream, line 1); {SYNTAX}",
        ),
    ],
)
def test_what_is_no_file_of_keys(files, content, line):
    files.site.write_bytes(content)
    assert files.faults() == [line]


@pytest.mark.parametrize(
    "content", [b"\xef\xbb\xbf" + SITE.encode(), SITE.replace("\n", "\r\n").encode()]
)
def test_files_from_other_systems_are_read(files, content):
    files.site.write_bytes(content)
    assert files.faults() == []


def test_a_missing_file(files):
    files.site.unlink()
    assert files.faults() == [
        "site.yaml: cannot be read (No such file or directory); create it, or name another file"
    ]


def test_a_directory_is_no_file(files):
    files.site.unlink()
    files.site.mkdir()
    assert files.faults() == ["site.yaml: cannot be read (Is a directory); name a file in it"]


@pytest.mark.parametrize("which", ["site", "profile"])
def test_an_unreadable_file(files, monkeypatch, which):
    """Root may read everything, so the refusal is made up."""
    secret = getattr(files, which)
    original = document.Path.read_bytes

    def refuse(path):
        if path == secret:
            raise PermissionError(13, "Permission denied")
        return original(path)

    monkeypatch.setattr(document.Path, "read_bytes", refuse)
    name = secret.relative_to(files.directory)
    assert files.faults() == [
        f"{name}: cannot be read (Permission denied); make it readable for the service's user"
    ]


def test_lines_are_found_in_every_style_of_yaml():
    parsed = parse_document("x", b"a: {b: 1,\n  c: [1,\n 2]}\n'd':\n  ? e\n  : - f\n    - g: h\n")
    assert parsed.line_of(("a",)) == 1
    assert parsed.line_of(("a", "c")) == 2
    assert parsed.line_of(("a", "c", 1)) == 3
    assert parsed.line_of(("d", "e")) == 5
    assert parsed.line_of(("d", "e", 1, "g")) == 7
    assert parsed.line_of(("d", "nowhere", 3)) == 4
    assert parsed.line_of(("nowhere",)) == 1
    assert parsed.data == {"a": {"b": 1, "c": [1, 2]}, "d": {"e": ["f", {"g": "h"}]}}


def test_what_is_read_is_plain_data(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text(
        "a: 1\nb: 1.5\nc: yes\nd: true\ne: null\nf: '07'\ng: 0x1F\nh: !!str 5\ni: 2024-01-31\n"
    )
    found = read_document(file).data
    assert found == {
        "a": 1, "b": 1.5, "c": "yes", "d": True, "e": None, "f": "07", "g": 31, "h": "5",
        "i": "2024-01-31",
    }  # fmt: skip
    assert {type(value) for value in found.values()} == {int, float, str, bool, type(None)}


def test_no_tag_of_yaml_runs_anything(tmp_path):
    text = b"a: !!python/object/apply:os.system ['touch %b/ran']\n" % str(tmp_path).encode()
    parse_document("x", text)
    assert not (tmp_path / "ran").exists()


def test_what_a_merge_key_brings_in_has_the_line_of_its_place():
    parsed = parse_document("x", b"base: &base\n  a: 1\nmine:\n  <<: *base\n  b: 2\n")
    assert parsed.data["mine"] == {"a": 1, "b": 2}
    assert parsed.line_of(("mine", "a")) == 3
    assert parsed.line_of(("mine", "b")) == 5
