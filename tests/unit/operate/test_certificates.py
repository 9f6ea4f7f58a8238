"""Acts on certificates: who may, what is understood, what is on record, and whom they wake."""

import base64

import pytest

from edgeagent.model.settings import Role
from edgeagent.operate.access import Person, every_role
from edgeagent.operate.acts import ActRefused, Acts, NotAllowed
from edgeagent.operate.certificates import certificate_acts, rows
from edgeagent.pki.folder import Folder, keep_rejected, look
from tests.authority import certificate
from tests.clocks import START_UTC_NS, ManualClock
from tests.fakes import TapeJournal, TapeRecorder

ANN = every_role("ann", 1000)


class Recorder(TapeRecorder):
    async def flush(self):
        """Everything is durable, at once."""


class Desk:
    def __init__(self, root):
        self.folder = Folder(root)
        self.recorder = Recorder(TapeJournal(), ManualClock())
        self.woken = 0
        self.acts = Acts(
            self.recorder, certificate_acts(self.folder, self.recorder, "hall", self._wake)
        )

    def _wake(self):
        self.woken += 1

    async def __call__(self, name, person=ANN, **arguments):
        request = {"act": f"certificate.{name}", "reason": "a test", "arguments": arguments}
        return await self.acts.perform(person, request)

    def events(self):
        return [name for name, _, _ in self.recorder.events]


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path / "pki")


@pytest.mark.parametrize("act", ["create", "trust", "reject"])
async def test_an_engineer_does_it_and_nobody_else(desk, act):
    bob = Person("bob", 1001, frozenset(Role) - {Role.ENGINEER})
    with pytest.raises(NotAllowed, match="takes the role engineer"):
        await desk(act, bob, fingerprint="00ff")
    assert (desk.events(), desk.woken) == (["access.refused"], 0)


async def test_each_act_is_on_record_and_wakes_who_watches_the_ends(desk):
    shown = certificate()
    keep_rejected(desk.folder, shown)
    await desk("create", key_bits=2048)
    await desk("trust", fingerprint=shown.fingerprint[:8])
    await desk("reject", fingerprint=shown.fingerprint[:8])
    assert desk.events() == [f"certificate.{what}" for what in ("created", "trusted", "rejected")]
    assert desk.woken == 3
    for _, _, facts in desk.recorder.events[1:]:
        assert facts["fingerprint"] == shown.fingerprint
        assert (facts["who"], facts["reason"]) == ("ann", "a test")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "give fingerprint or certificate"),
        ({"fingerprint": "00ff", "certificate": ""}, "give fingerprint or certificate"),
        ({"certificate": "no base64"}, "certificate is no base64"),
        ({"certificate": base64.b64encode(b"rubbish").decode()}, "cannot be read as a certificate"),
        ({"fingerprint": "../../etc"}, "is no beginning of a fingerprint"),
        ({"fingerprint": "00ff"}, "no certificate 00ff in"),
    ],
)
async def test_what_is_not_understood_changes_nothing(desk, arguments, words):
    with pytest.raises(ActRefused, match=words):
        await desk("trust", **arguments)
    assert (desk.events(), look(desk.folder).kept) == ([], ())


async def test_a_folder_that_cannot_be_written_is_named(desk):
    desk.folder.root.write_text("a file where a folder should be")
    with pytest.raises(ActRefused, match=r"pki/own.*: Not a directory; give it to the service"):
        await desk("create", key_bits=2048)


async def test_what_is_shown_is_json_and_safe_to_print(desk):
    keep_rejected(desk.folder, certificate("x\x1b[2J", uri="urn:\x07", days=10))
    (shown,) = rows(desk.folder, START_UTC_NS)["certificates"]
    assert (shown["place"], shown["left_days"], shown["key_bits"]) == ("rejected", 10, 2048)
    assert all(text.isprintable() for text in (shown["subject"], *shown["uris"]))
