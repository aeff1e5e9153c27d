"""`assay audit import`: the ledger of another installation, for what it revoked since."""

from dataclasses import dataclass
from pathlib import Path

from core.environment import set_library_environment
from core.errors import ParameterError
from operations.identity import verified_identity
from operations.orders import current_project
from registry.ledger.entries import OriginHead
from registry.ledger.ledger import open_ledger, read_ledger
from registry.release.context import ChangeRequest
from registry.release.environments import FILE, read_environments


@dataclass(frozen=True)
class ImportedOrigin:
    """A ledger of another installation that was verified here, and what it means for this one."""

    head: OriginHead
    alarms: tuple[str, ...]


def import_origin(export: Path) -> ImportedOrigin:
    """Verify an export of another installation, and remember how far it goes.

    `ParameterError` where nobody is listed, or nobody is known to act; `TransferRefused` where no
    listed key signed in it or it is an older copy than was read; `BrokenLedger` or `IllegalEntry`
    names its first bad entry.
    """
    set_library_environment()
    # After the settings above: libraries read them when they are imported.
    from flows.receive import describe_origin_revocations, see_origin
    from registry.release.transfer import read_origin

    project = current_project()
    trusted = read_environments(project.root).receives_from
    if not trusted:
        raise ParameterError(
            f"{FILE} lists nobody under `receives_from`, so no other ledger is believed. "
            "List the installation with its key first."
        )
    identity = verified_identity(project)
    # Opening would create a ledger where there is none.
    read_ledger(project.home)
    ledger = open_ledger(project.home)
    # The same verification as of a ledger that comes with a version.
    origin = read_origin(export, trusted)
    order = ChangeRequest(by=identity.by, reason="", account=identity.account)
    see_origin(ledger, origin, order)
    return ImportedOrigin(origin.head, describe_origin_revocations(ledger.state()))
