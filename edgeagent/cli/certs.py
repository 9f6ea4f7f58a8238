"""``edgeagent certs``: the agent's own certificate, and whom it trusts."""

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeagent.cli.client import NotRunning, ask
from edgeagent.cli.exits import CommandFailed, Exit, ends_well
from edgeagent.cli.options import config_option, echo_json, json_option
from edgeagent.configure.place import find_place

if TYPE_CHECKING:
    from edgeagent.configure import SitePlan
    from edgeagent.journal import Recorder
    from edgeagent.operate.acts import ActKind

WARNING_DAYS = 60
OWN = "own"
_SHOWN = 16  # hex digits of a fingerprint in a table; the whole of it with show

_reason_option = click.option("--reason", required=True, help="Why; kept on record.")


@click.group()
def certs() -> None:
    """Make the agent's certificate; list, show, trust and reject those of others.

    What a server shows and nobody has accepted is refused and kept under rejected. Compare its
    fingerprint with the server's, then trust it; the next connection comes up.

    \b
    edgeagent certs create --reason "commissioning"
    edgeagent certs list
    edgeagent certs trust 4f1c9a0b22d7 --reason "compared with the freezer's display, change 4713"
    """


def _kinds(plan: "SitePlan", recorder: "Recorder") -> "list[ActKind]":
    from edgeagent.operate.certificates import certificate_acts

    return certificate_acts(plan.pki, recorder, plan.settings.site)


def _perform(config: Path, name: str, reason: str, **arguments: Any) -> Any:
    from edgeagent.cli.offline import perform

    return perform(config, _kinds, name, reason, **arguments)


@certs.command()
@_reason_option
@click.option("--uri", help="Application URI.  [default: urn:HOST:edgeagent:SITE]")
@click.option("--host", "hosts", multiple=True, help="DNS name or address; may be repeated.")
@click.option("--days", type=click.IntRange(1), help="How long it is valid.  [default: 1095]")
@click.option("--key-bits", type=int, help="2048, 3072 or 4096.  [default: 3072]")
@click.option("--csr", is_flag=True, help="Write a request for the site's authority, too.")
@click.option("--replace", is_flag=True, help="Replace the certificate and the key that are there.")
@config_option
@json_option
@ends_well
def create(
    reason: str,
    uri: str | None,
    hosts: tuple[str, ...],
    days: int | None,
    key_bits: int | None,
    csr: bool,
    replace: bool,
    config: Path,
    as_json: bool,
) -> None:
    """Make the agent's own key and certificate.

    Nothing that is there is overwritten without --replace. --csr alone makes a request for the key
    that is there; put what the authority issues in place of own/certificate.pem.
    """
    stated: dict[str, Any] = {"uri": uri, "days": days, "key_bits": key_bits}
    arguments = {key: value for key, value in stated.items() if value is not None}
    done = _perform(
        config,
        "certificate.create",
        reason,
        hosts=list(hosts),
        replace=replace,
        request=csr,
        **arguments,
    )
    if as_json:
        echo_json(done)
        return
    _print_facts(done)
    if done["request"]:
        click.echo(f"request:     {done['request']}")
    click.echo("Have it trusted by the servers: edgeagent certs show own --save agent.der")


@certs.command("list")
@config_option
@json_option
@ends_well
def list_certificates(config: Path, as_json: bool) -> None:
    """Show what is own, trusted, rejected and an issuer, with its end."""
    found = _found(config)
    if as_json:
        for each in found["certificates"]:
            del each["pem"]
        echo_json(found)
        return
    for each in found["certificates"]:
        click.echo(
            f"{each['place']:<9} {each['fingerprint'][:_SHOWN]} {each['not_after'][:10]} "
            f"{_left(each):<17} {each['subject']}"
        )
    for each in found["crl"]:
        until = (each["next_update"] or "without end")[:10]
        click.echo(f"{'crl':<9} {'':<{_SHOWN}} {until:<28} {each['issuer']}")
    for each in found["unreadable"]:
        click.echo(f"{each['file']}: {each['reason']}", err=True)
    if not any(each["place"] == OWN for each in found["certificates"]):
        click.echo("no own certificate: edgeagent certs create --reason '...'")


def _left(each: dict[str, Any]) -> str:
    days = each["left_days"]
    if days < 0:
        return "EXPIRED"
    return f"{days} d left" if days > WARNING_DAYS else f"only {days} d left"


def _found(config: Path) -> dict[str, Any]:
    """Return what is in the PKI folder, from the running agent or from its files."""
    try:
        found: dict[str, Any] = ask(config, "GET", "/certificates")
    except NotRunning:
        from edgeagent.model.clock import SystemClock
        from edgeagent.operate.certificates import rows
        from edgeagent.pki.folder import Folder

        root = find_place(config).pki
        _refuse_closed(root)
        found = rows(Folder(root), SystemClock().utc_ns())
    return found


def _refuse_closed(root: Path) -> None:
    """Refuse to show as empty what may not be looked into.

    :raises CommandFailed: if the folder is there and cannot be read
    """
    try:
        next(root.iterdir(), None)
    except FileNotFoundError:
        return
    except OSError as error:
        raise CommandFailed(
            f"{root}: {error.strerror}; start the agent, or run this as the service's user",
            Exit.NOT_ALLOWED,
        ) from None


@certs.command()
@click.argument("which", metavar="FILE|PREFIX|own")
@click.option("--save", type=click.Path(path_type=Path), help="Write it: DER, or PEM into *.pem.")
@config_option
@json_option
@ends_well
def show(which: str, save: Path | None, config: Path, as_json: bool) -> None:
    """Show one certificate: a file, what begins with a fingerprint, or the agent's own."""
    each = _from_file(Path(which)) if Path(which).is_file() else _chosen(config, which)
    if save is not None:
        _save(each["pem"], save)
    if as_json:
        echo_json(each)
    else:
        _print_facts(each)


def _from_file(path: Path) -> dict[str, Any]:
    from datetime import UTC, datetime

    from edgeagent.model.clock import SystemClock
    from edgeagent.operate.certificates import row

    now = datetime.fromtimestamp(SystemClock().utc_ns() / 1e9, UTC)
    return row("file", path, _read(path), now)


def _read(path: Path) -> Any:
    from edgeagent.pki.certificate import PkiError, read_certificate

    try:
        return read_certificate(path.read_bytes())
    except PkiError as error:
        raise CommandFailed(f"{path} {error}", Exit.USAGE) from None
    except OSError as error:
        raise CommandFailed(f"{path}: {error.strerror}", Exit.USAGE) from None


def _chosen(config: Path, which: str) -> dict[str, Any]:
    from edgeagent.pki.folder import normalised

    prefix = normalised(which)
    found: dict[str, dict[str, Any]] = {}
    for each in _found(config)["certificates"]:
        if each["place"] == OWN if which == OWN else each["fingerprint"].startswith(prefix):
            found.setdefault(each["fingerprint"], each)
            if which == OWN:  # authorities may stand behind it
                break
    if not found:
        raise CommandFailed(f"no certificate {which}; see: edgeagent certs list", Exit.USAGE)
    if len(found) > 1:
        raise CommandFailed(f"{which} begins {len(found)} fingerprints; give more", Exit.USAGE)
    return next(iter(found.values()))


def _save(pem: str, path: Path) -> None:
    from edgeagent.pki.certificate import read_certificate

    content = pem.encode() if path.suffix == ".pem" else read_certificate(pem.encode()).der
    try:
        path.write_bytes(content)
    except OSError as error:
        raise CommandFailed(f"{path}: {error.strerror}", Exit.CANNOT_CREATE) from None


@certs.command()
@click.argument("which", metavar="PREFIX|FILE")
@_reason_option
@config_option
@json_option
@ends_well
def trust(which: str, reason: str, config: Path, as_json: bool) -> None:
    """Trust a certificate that was refused, or the one in a file, from the next connection on.

    An authority's certificate stands for everything that it issues.
    """
    if Path(which).is_file():
        content = base64.b64encode(_read(Path(which)).der).decode()
        done = _perform(config, "certificate.trust", reason, certificate=content)
    else:
        done = _perform(config, "certificate.trust", reason, fingerprint=which)
    if as_json:
        echo_json(done)
        return
    click.echo(f"trusted: {done['fingerprint']} {done['subject']}")
    for other in done["same_application"]:
        click.echo(
            f"still trusted for the same server: {other[:_SHOWN]}; when it is used no more: "
            f"edgeagent certs reject {other[:_SHOWN]} --reason '...'"
        )


@certs.command()
@click.argument("prefix")
@_reason_option
@config_option
@json_option
@ends_well
def reject(prefix: str, reason: str, config: Path, as_json: bool) -> None:
    """Trust a certificate no more; a connection that is up ends within seconds."""
    done = _perform(config, "certificate.reject", reason, fingerprint=prefix)
    if as_json:
        echo_json(done)
        return
    click.echo(f"rejected: {done['fingerprint']} {done['subject']}")


def _print_facts(each: dict[str, Any]) -> None:
    for name, value in (
        ("place", each["place"]),
        ("fingerprint", each["fingerprint"]),
        ("subject", each["subject"]),
        ("issuer", each["issuer"]),
        ("uri", ", ".join(each["uris"])),
        ("hosts", ", ".join(each["hosts"])),
        ("key", f"RSA {each['key_bits']} bits" if each["key_bits"] else "not RSA"),
        ("valid", f"{each['not_before'][:10]} to {each['not_after'][:10]}, {_left(each)}"),
        ("file", each["file"]),
    ):
        click.echo(f"{name + ':':<12} {value}")
