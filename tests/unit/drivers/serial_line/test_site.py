"""A site file with serial lines is checked as a whole before any port opens."""

import pytest

from edgeagent.configure.plan import load_plan
from edgeagent.model.errors import ConfigurationError

SITE = """\
site: c1
state_dir: {folder}
broker: {{url: "mqtt://localhost"}}
links:
  pumps: {{driver: serial_line, host: 10.0.0.1}}
  scanner: {{driver: serial_line, host: 10.0.0.2}}
instruments:
  pump-1: {{profile: watson-marlow-620, link: pumps, address: "1"}}
  pump-2: {{profile: watson-marlow-620, link: pumps, address: "{second}"}}
  scanner-1: {{profile: barcode-scanner, link: scanner{key}}}
"""


def plan(tmp_path, second="2", key=", pseudonym_key_file: /etc/edgeagent/pseudonym.key"):
    site = tmp_path / "site.yaml"
    site.write_text(SITE.format(folder=tmp_path, second=second, key=key))
    return load_plan(site)


def test_a_sound_site_is_planned(tmp_path):
    assert [link.name for link in plan(tmp_path).links] == ["pumps", "scanner"]


@pytest.mark.parametrize(
    ("keys", "line", "words"),
    [
        ({"second": "17"}, 9, "address '17' has another form; it must match"),
        ({"second": "1"}, 9, "both have address 1, as pump-1 has; give each its own address"),
        ({"key": ""}, 10, "has texts that become pseudonyms, and no key; add pseudonym_key_file"),
        ({"key": ", pseudonym_key_file: key"}, 10, "write the whole path"),
    ],
)
def test_what_does_not_fit_is_told_with_line_and_mend(tmp_path, keys, line, words):
    with pytest.raises(ConfigurationError) as caught:
        plan(tmp_path, **keys)
    (fault,) = caught.value.faults
    assert fault.line == line
    assert words in str(fault)
