"""Where a running agent is found, also when its site file has been broken since it started."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeagent.configure.document import read_document
from edgeagent.model.errors import ConfigurationError

SOCKET_NAME = "control.sock"
PKI_NAME = "pki"
_STATE_DIR = re.compile(r"""^state_dir:\s*["']?([^\s"'#]+)""", re.MULTILINE)
_PKI = re.compile(r"""^pki:\s*["']?([^\s"'#]+)""", re.MULTILINE)
_SOCKET = re.compile(r"""^(?:control:.*|\s+)\bsocket:\s*["']?([^\s"'#},]+)""", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Place:
    """The state directory of an agent, the socket on which it listens, and its certificates."""

    state_dir: Path
    socket: Path
    pki: Path


def find_place(site_file: Path) -> Place:
    """Return where the agent of a site file is.

    Nothing but these keys is looked at: a person who has just broken the file must still be
    able to ask the agent that runs with the one before.

    :raises ConfigurationError: if the file cannot be read, or does not say where
    """
    try:
        data = read_document(site_file).data
    except ConfigurationError:
        data = _by_line(site_file)
        if data is None:
            raise
    base = site_file.absolute().parent
    control = data.get("control")
    state_dir = data.get("state_dir")
    if not isinstance(state_dir, str):
        document = read_document(site_file)
        raise ConfigurationError([document.fault(("state_dir",), "is missing", "add it")])
    socket = control.get("socket") if isinstance(control, dict) else None
    pki = data.get("pki")
    found = base / state_dir
    return Place(
        found,
        base / socket if isinstance(socket, str) else found / SOCKET_NAME,
        pki_of(base, state_dir, pki if isinstance(pki, str) else None),
    )


def pki_of(base: Path, state_dir: Path | str, stated: Path | str | None) -> Path:
    """Return the PKI folder of a site whose file lies in ``base``."""
    return base / (stated or Path(state_dir) / PKI_NAME)


def _by_line(site_file: Path) -> dict[str, Any] | None:
    """Read the keys of a file that is no YAML any more."""
    try:
        text = site_file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state_dir, socket, pki = _STATE_DIR.search(text), _SOCKET.search(text), _PKI.search(text)
    if state_dir is None:
        return None
    return {
        "state_dir": state_dir[1],
        "control": {"socket": socket[1]} if socket else {},
        "pki": pki and pki[1],
    }
