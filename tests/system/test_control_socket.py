"""The control socket of a real agent: who may do what, and what strangers can send.

Other accounts are real ones: a process under another uid connects. That takes root (or sudo).
"""

import grp
import json
import os
import pwd
import random
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.system.chain import (
    Chain,
    answers,
    by_device,
    check_against_ledger,
    edgeagent,
    wait_until,
)

STRANGER = "nobody"
VIEWERS, ENGINEERS, QUALITY = "games", "mail", "news"  # groups that every Debian has

_ASK = """
import http.client, json, socket, sys
connection = http.client.HTTPConnection("agent", timeout=20)
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect(sys.argv[1])
connection.request(sys.argv[2], sys.argv[3], sys.argv[4] or None)
answer = connection.getresponse()
print(json.dumps([answer.status, answer.read().decode()]))
"""


@contextmanager
def running(tmp_path: Path) -> Iterator[tuple[Chain, Path]]:
    """A chain whose socket lies where everybody may go."""
    with tempfile.TemporaryDirectory(dir="/tmp") as open_place:
        Path(open_place).chmod(0o755)
        address = Path(open_place) / "control.sock"
        chain = Chain(tmp_path, devices=1, period="50 ms")
        chain.broker_text += (
            f"\ncontrol:\n  socket: {address}\n  roles: {{viewer: [{VIEWERS}], "
            f"engineer: [{ENGINEERS}, no-such-group], quality: [{QUALITY}]}}"
        )
        with chain:
            wait_until("values", lambda: chain.answers() > 20)
            yield chain, address


def ask_as(
    groups: list[str], address: Path, method: str, path: str, body: Any = None
) -> tuple[int, Any]:
    """Ask under another account that is in these groups; return status and answer."""
    stranger = pwd.getpwnam(STRANGER)
    gids = [grp.getgrnam(name).gr_gid for name in groups]
    command = ["/usr/bin/python3", "-I", "-c", _ASK, str(address), method, path]
    command.append("" if body is None else json.dumps(body))
    if os.geteuid() != 0:
        wanted = [f"--user={STRANGER}", *(f"--group={name}" for name in groups[:1])]
        command = ["sudo", "-n", *wanted, *command]
    kwargs: dict[str, Any] = {}
    if os.geteuid() == 0:
        kwargs = {"user": stranger.pw_uid, "group": stranger.pw_gid, "extra_groups": gids}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd="/", timeout=60, **kwargs
    )
    assert done.returncode == 0, (
        f"a process under the account {STRANGER} is needed: run the tests as root, or allow "
        f"`sudo -n -u {STRANGER}`\n{done.stderr}"
    )
    status, text = json.loads(done.stdout)
    return status, json.loads(text)


def act(name: str, reason: str = "test", **arguments: Any) -> dict[str, Any]:
    return {"act": name, "reason": reason, "arguments": arguments}


def audit(chain: Chain, event: str) -> list[dict[str, Any]]:
    return [body[6] for body in chain.bodies("event") if body[0] == "E" and body[5] == event]


def test_a_group_gives_a_role_and_every_act_is_on_record(tmp_path: Path) -> None:
    with running(tmp_path) as (chain, address):
        enrol, retire = act("consumer.enrol", consumer="lims"), act("consumer.retire", "no more",
                                                                    consumer="lims")  # fmt: skip
        status, said = ask_as([], address, "GET", "/status")
        assert (status, said["error"]) == (
            403, f"{STRANGER} has no role here; who may look is in the group {VIEWERS}"
        )  # fmt: skip
        assert ask_as([], address, "POST", "/acts", enrol)[0] == 403
        status, seen = ask_as([VIEWERS], address, "GET", "/status")
        assert (status, seen["site"]) == (200, "chain")
        status, said = ask_as([VIEWERS], address, "POST", "/acts", enrol)
        assert status == 403
        assert "takes the role engineer" in said["error"]
        assert "control.roles.engineer" in said["error"]
        for _ in range(3):  # once on record, however often it is tried
            assert ask_as([VIEWERS], address, "POST", "/acts", enrol)[0] == 403
        status, done = ask_as([ENGINEERS], address, "POST", "/acts", enrol)
        assert (status, done) == (200, {"consumer": "lims", "state": "enrolled"})
        assert ask_as([ENGINEERS], address, "POST", "/acts", retire)[0] == 403
        assert ask_as([QUALITY], address, "POST", "/acts", retire)[0] == 200
        reload = act("configuration.reload")
        assert ask_as([QUALITY], address, "POST", "/acts", reload)[0] == 403
        assert ask_as([ENGINEERS], address, "POST", "/acts", reload)[0] == 200
        chain.finish()
        uid = pwd.getpwnam(STRANGER).pw_uid
        who = {"who": STRANGER, "uid": uid, "reason": "test"}
        (enrolled,) = [e for e in audit(chain, "consumer.enrolled") if e["consumer"] == "lims"]
        assert who.items() <= enrolled.items()
        assert (enrolled.get("before"), enrolled["after"]) == (None, "enrolled")
        (retired,) = audit(chain, "consumer.retired")
        assert {**who, "reason": "no more", "before": "enrolled"}.items() <= retired.items()
        refused = [(r["act"], r["role"], r["uid"]) for r in audit(chain, "access.refused")]
        assert refused == [
            ("consumer.enrol", "engineer", uid),
            ("consumer.retire", "quality", uid),
            ("configuration.reload", "engineer", uid),
        ]


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (act("consumer.enrol", reason="  ", consumer="x"), "a reason is required"),
        ({"act": "consumer.enrol", "arguments": {"consumer": "x"}}, "reason"),
        (act("consumer.enrol", reason="a\nb", consumer="x"), "one line"),
        (act("consumer.enrol", reason="r" * 501, consumer="x"), "reason"),
        (act("consumer.enrol"), "consumer"),
        (act("consumer.enrol", consumer="No Such Name!"), "consumer"),
        (act("consumer.enrol", consumer="x", more=1), "more"),
        (act("consumer.suspend", consumer="nobody"), "is not enrolled: cannot suspend"),
        (act("write.register", consumer="x"), "unknown act 'write.register'; known: "),
        ([], "request"),
        ("text", "request"),
        (None, "no JSON"),
    ],
)
def test_an_act_that_is_not_understood_is_refused_in_words(
    agent: tuple[Chain, Path], request_: Any, said: str
) -> None:
    _, address = agent
    status, answer = ask_as([ENGINEERS], address, "POST", "/acts", request_)
    assert status == 400
    assert said in answer["error"]
    assert "\n" not in answer["error"]


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Chain, Path]]:
    with running(tmp_path_factory.mktemp("agent")) as found:
        yield found


def resident_bytes(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) * 1024


def connected(address: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(20)
    client.connect(str(address))
    return client


def test_garbage_on_the_socket_harms_nobody(tmp_path: Path) -> None:
    """Goal: whatever comes in, the agent answers others, polls on, and does not grow.

    Method: 400 random requests from one seed, of every kind of wrong; the ledger decides whether a
    poll was missed.
    """
    seed = 20
    dice = random.Random(seed)
    with running(tmp_path) as (chain, address):
        before = resident_bytes(chain.agent.pid)
        for _ in range(400):
            with connected(address) as client:
                try:
                    client.sendall(garbage(dice))
                    if dice.random() < 0.7:
                        client.shutdown(socket.SHUT_WR)
                        client.recv(65536)
                except OSError:
                    pass  # the agent may hang up on us
        assert chain.status()["running"]
        grown = resident_bytes(chain.agent.pid) - before
        assert grown < 30e6, f"{grown} bytes after garbage (seed {seed})"
        log = chain.agent.log.read_text()
        assert "Traceback" not in log
        assert log.count("\n") < 50, "each broken request must not fill the log"
        now = chain.answers()
        wait_until("values after that", lambda: chain.answers() > now + 20)
        chain.finish()
        held = by_device(chain.bodies())
        check_against_ledger(held, chain.slave.answers())
        causes = {gap.cause for device in held.values() for gap in device.gaps}
        assert causes <= {"first_value", "agent_stopped", "overrun"}  # a busy machine may be late
        assert not audit(chain, "access.refused")


def garbage(dice: random.Random) -> bytes:
    """Return something that is no request, or none that anybody should serve."""
    path = dice.choice(["/status", "/acts", "/watch", "/../etc/passwd", "/%00", "/" + "a" * 9000])
    kinds = [
        lambda: dice.randbytes(dice.randrange(1, 20_000)),
        lambda: f"GET {path} HTTP/1.1\r\nHost: a\r\nX: {'b' * 20_000}\r\n\r\n".encode(),
        lambda: f"{dice.choice(['PUT', 'DELETE', 'BREW'])} {path} HTTP/1.1\r\n\r\n".encode(),
        lambda: f"POST /acts HTTP/1.1\r\nContent-Length: {10**12}\r\n\r\n{{".encode(),
        lambda: b"POST /acts HTTP/1.1\r\nContent-Length: -1\r\n\r\n{}",
        lambda: b"POST /acts HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
        lambda: b"POST /acts HTTP/1.1\r\nContent-Length: 70000\r\n\r\n" + b"[" * 70_000,
        lambda: b"POST /acts HTTP/1.1\r\nContent-Length: 3\r\n\r\n\xff\xfe\x00",
        lambda: b"GET /status HTTP/1.1\r\n" + b"A: b\r\n" * 5_000,
        lambda: f"GET {path} HTTP/{dice.randrange(9)}.{dice.randrange(9)}\r\n\r\n".encode(),
        lambda: b"\x16\x03\x01" + dice.randbytes(300),
        lambda: b"G",
    ]
    return dice.choice(kinds)()


def test_one_account_cannot_keep_the_others_out(agent: tuple[Chain, Path]) -> None:
    """Goal: a person who forgets fifty `watch` does not lock the door behind them."""
    _, address = agent
    with ExitStack() as held:
        clients = [held.enter_context(connected(address)) for _ in range(50)]
        for client in clients:
            with suppress(BrokenPipeError):  # a busy machine: refused and closed before we speak
                client.sendall(b"GET /watch HTTP/1.1\r\nHost: agent\r\n\r\n")
        replies = [client.recv(12) for client in clients]
        assert replies.count(b"HTTP/1.1 200") == 16
        assert replies.count(b"HTTP/1.1 503") == 34
        assert ask_as([VIEWERS], address, "GET", "/status")[0] == 200
    chain, _ = agent
    wait_until("the own account gets in again", lambda: answers(chain.config))


def test_the_daemon_listens_on_no_tcp_port(agent: tuple[Chain, Path]) -> None:
    chain, _ = agent
    own = {
        str(entry.readlink()).removeprefix("socket:[").removesuffix("]")
        for entry in Path(f"/proc/{chain.agent.pid}/fd").iterdir()
        if str(entry.readlink()).startswith("socket:[")
    }
    assert own
    for table in ("tcp", "tcp6"):
        rows = [row.split() for row in Path(f"/proc/net/{table}").read_text().splitlines()[1:]]
        assert not [row for row in rows if row[3] == "0A" and row[9] in own], "it listens"


def test_without_an_agent_the_answer_says_so(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text("site: x\nstate_dir: state\n")
    for command in (["status"], ["watch"], ["reload", "--reason", "x"]):
        edgeagent(*command, "--config", str(tmp_path / "site.yaml"), code=69)


def test_the_journal_is_looked_into_through_the_agent(tmp_path: Path) -> None:
    """Goal: who may look needs no right to the files, and disturbs nothing.

    Method: the files are closed to the stranger, who gets the same through the socket as the
    service's user gets from the files after the stop.
    """
    with running(tmp_path) as (chain, address):
        config = ["--config", str(chain.config)]
        wait_until("many values", lambda: chain.answers() > 200)
        state = ask_as([VIEWERS], address, "GET", "/journal")[1]
        assert state["budget"]["budget_bytes"] > state["used_bytes"] > 0
        assert "budget 20.0 GB" in edgeagent("journal", "status", *config)
        while_running = edgeagent("journal", "export", "--to", "100", *config)
        found = json.loads(edgeagent("journal", "verify", "--json", *config))
        assert found["records"] > 200
        assert not found["faults"]
        refused = ask_as([VIEWERS], address, "GET", "/journal/export?lane=nonsense")
        assert refused[0] == 400
        unknown = ask_as([VIEWERS], address, "GET", "/journal/export?epoch=nonsense")
        assert unknown[0] == 409
        assert "no epoch nonsense; known: " in unknown[1]["error"]
        edgeagent("journal", "export", "--epoch", "nonsense", *config, code=2)
        chain.finish()
        bodies = [line for line in while_running.splitlines() if line.startswith("[")]
        after = edgeagent("journal", "export", "--to", "100", *config).splitlines()
        assert bodies == [line for line in after if line.startswith("[")]
        assert json.loads(edgeagent("journal", "verify", "--json", *config))["faults"] == []
        edgeagent("journal", "export", "--epoch", "nonsense", *config, code=2)
