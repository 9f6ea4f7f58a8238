"""A sound configuration becomes one plan: files found, paths resolved, groups compiled.

Method: the small site on disk, with fake drivers.
"""

from dataclasses import replace

import pytest

from edgeagent.configure import load_plan
from edgeagent.configure.plan import driver_kinds, load_profile, shipped_profiles
from edgeagent.driver import DriverKind
from edgeagent.model.errors import ConfigurationError
from tests.unit.configure.site import KINDS, PROFILE, SITE, changed


def test_a_plan_holds_what_the_files_say(files):
    text = changed(
        SITE,
        "    address: 1",
        "    address: 1\n    serial_number: '0042'\n    groups: {weight: {period: 250 ms}}",
    )
    files.site.write_text(text + "  probe-2: {profile: acme-b200, link: gateway, address: 2}\n")
    plan = files.plan()
    (link,) = plan.links
    assert (link.kind, link.settings.host, link.settings.port) == (KINDS["fake"], "10.0.0.7", 502)
    one, two = plan.instruments
    assert (one.name, one.settings.address, one.expected) == (
        "probe-1",
        1,
        (("serial_number", "0042"),),
    )
    assert (two.name, two.settings.address, two.expected) == ("probe-2", 2, ())
    assert [group.period_ns for group in plan.groups] == [250_000_000, 10**9]
    assert one.profile is two.profile
    assert [profile.file for profile in plan.profiles] == [str(files.profile)]


def test_paths_belong_to_the_site_file_and_not_to_the_working_directory(
    files, monkeypatch, tmp_path_factory
):
    secret = files.directory / "secret"
    secret.write_text("x")
    broker = "  url: mqtts://broker\n  username: me\n  password_file: secret\n  ca_file: secret"
    files.site.write_text(changed(SITE, "  url: mqtt://broker", broker))
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    settings = files.plan().settings
    assert settings.state_dir == files.directory / "state"
    assert settings.broker.password_file == settings.broker.ca_file == secret
    assert settings.broker.key_file is None


def test_absolute_paths_stay(files):
    files.site.write_text(changed(SITE, "state_dir: state", "state_dir: /var/lib/edgeagent"))
    assert str(files.plan().settings.state_dir) == "/var/lib/edgeagent"


def test_a_check_makes_no_state_directory(files):
    files.plan()
    assert not (files.directory / "state").exists()


def test_the_revision_changes_with_every_file_in_use_and_with_no_other(files):
    before = files.plan().revision
    assert len(before) == 64
    (files.profile.parent / "another.yaml").write_text("colour: red")
    assert files.plan().revision == before
    files.profile.write_text(PROFILE + "# a remark\n")
    after = files.plan().revision
    assert after != before
    files.site.write_text(SITE + "# a remark\n")
    assert files.plan().revision not in (before, after)


def test_the_site_s_own_profiles_come_before_those_that_ship(files, monkeypatch):
    shipped = {"acme-b200": changed(PROFILE, "make: Acme", "make: Shipped").encode()}
    monkeypatch.setattr("edgeagent.configure.plan.shipped_profiles", lambda: shipped)
    assert files.plan().instruments[0].profile.make == "Acme"
    files.profile.unlink()
    assert files.plan().instruments[0].profile.make == "Shipped"
    shipped["acme-b200"] = changed(PROFILE, "make: Acme", "colour: red").encode()
    assert [line.split(":")[0] for line in files.faults()] == ["acme-b200.yaml"] * 2


def test_links_without_instruments_are_kept(files):
    files.site.write_text(
        changed(SITE, "instruments:", "  spare: {driver: fake, host: other}\ninstruments:")
    )
    assert [(link.name, len(link.instruments)) for link in files.plan().links] == [
        ("gateway", 1),
        ("spare", 0),
    ]


def test_the_drivers_that_are_installed_and_the_profiles_that_ship():
    kinds = driver_kinds()
    assert all(isinstance(kind, DriverKind) and kind.name == name for name, kind in kinds.items())
    assert "modbus" in kinds
    assert set(shipped_profiles()) >= {"adam-4015", "hamilton-arc-ph", "met-one-6000"}


def test_every_profile_that_ships_is_sound(tmp_path):
    for name, raw in shipped_profiles().items():
        file = tmp_path / f"{name}.yaml"
        file.write_bytes(raw)
        assert load_profile(file).profile == name


def test_a_driver_that_is_not_installed_is_named(files):
    files.site.write_text(changed(SITE, "driver: fake", "driver: other"))
    with pytest.raises(ConfigurationError, match="no driver 'other'; installed: none"):
        load_plan(files.site, {})


@pytest.mark.parametrize(("line", "where"), [("", "state/pki"), ("pki: elsewhere\n", "elsewhere")])
def test_a_link_is_told_where_the_certificates_of_its_site_are(files, line, where):
    """Nothing needs to be stated; what is stated counts from the site file."""
    files.site.write_text(line + SITE)
    told = []

    def at_site(settings, pki):
        told.append(pki)
        return settings

    plan = load_plan(files.site, {"fake": replace(KINDS["fake"], at_site=at_site)})
    assert [plan.pki.root, *told] == [files.directory / where] * 2
