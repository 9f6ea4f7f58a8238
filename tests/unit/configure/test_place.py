"""Where a running agent is found, also when its site file has just been broken."""

from pathlib import Path

import pytest

from edgeagent.configure.place import Place, find_place
from edgeagent.model.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "state_dir", "socket"),
    [
        ("state_dir: state\n", "state", "state/control.sock"),
        ("state_dir: /srv/e\ncontrol: {socket: /run/e/c.sock}\n", "/srv/e", "/run/e/c.sock"),
        ("state_dir: s\ncontrol:\n  roles: {}\n  socket: run/c.sock\n", "s", "run/c.sock"),
        # No YAML any more:
        ("state_dir: 's'\nlinks: [\n", "s", "s/control.sock"),
        ("links: {{{\nstate_dir: s # here\ncontrol:\n  # x\n  socket: /c\n", "s", "/c"),
        ("a: b: c\nstate_dir: s\ncontrol: {roles: {}, socket: /run/c}\n", "s", "/run/c"),
        # Sound YAML, otherwise full of faults:
        ("state_dir: s\ncontrol: 7\nnonsense: 1\n", "s", "s/control.sock"),
    ],
)
def test_two_keys_are_enough(tmp_path: Path, text: str, state_dir: str, socket: str) -> None:
    file = tmp_path / "site.yaml"
    file.write_text(text)
    state = tmp_path / state_dir
    assert find_place(file) == Place(state, tmp_path / socket, state / "pki")


@pytest.mark.parametrize("rest", ["", "links: [\n"])
def test_the_pki_folder_may_lie_elsewhere(tmp_path: Path, rest: str) -> None:
    file = tmp_path / "site.yaml"
    file.write_text(f"state_dir: s\npki: certificates # here\n{rest}")
    assert find_place(file).pki == tmp_path / "certificates"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "site.yaml: cannot be read (No such file or directory)"),
        ("site: x\n", "site.yaml:1: state_dir: is missing; add it"),
        ("links: [\n", "is no valid YAML"),
    ],
)
def test_who_does_not_say_where_is_told(tmp_path: Path, text: str | None, said: str) -> None:
    file = tmp_path / "site.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigurationError, match=r".") as caught:
        find_place(file)
    assert said in str(caught.value)
