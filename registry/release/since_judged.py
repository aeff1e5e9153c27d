"""What was said and done since `judge` looked at a version: its verdict then counts no more.

Evidence takes minutes to judge, and a base of gigabytes as long to check before a release begins.
"""

from core.errors import ReleaseError
from registry.ledger.entries import (
    ApprovalWithdrawn,
    Body,
    Judged,
    KeyRevoked,
    ModelRated,
    Rated,
    Release,
    ReviewOpened,
)
from registry.ledger.ledger import Ledger
from registry.ledger.state import LedgerState, registration_key


def check_nothing_was_said(
    ledger: Ledger, version: Judged | Release, since: int
) -> None:
    """`ReleaseError` with the first entry behind `since` that may change what `judge` says."""
    for entry in ledger.iterate_entries(after=since):
        said = _describe(entry.body, version)
        if said:
            raise ReleaseError(
                f"While version {version.version} of {version.model} was judged, {said} "
                f"(entry {entry.generation}), so that this verdict does not count. Ask again."
            )


def find_withdrawal(ledger_state: LedgerState, release: Release, since: int) -> str:
    """Why the verdict of that entry holds no more while its release is on its way; empty: it does.

    By the state, in which every entry is verified: a canary is looked at ten times a second, for
    days. Reviews go on meanwhile, and count for what is judged later.
    """
    taken_back = ledger_state.withdrawals.get(
        registration_key(release.model, release.version)
    )
    if taken_back is not None and taken_back.generation > since:
        said = _describe_taken_back(taken_back.by)
        return f"{said} (entry {taken_back.generation})"
    for key_id, revoked in ledger_state.revoked_keys.items():
        stolen_at = revoked.compromised_at
        if stolen_at is not None and stolen_at > since:
            said = _describe_stolen(key_id)
            return f"{said} (entry {stolen_at})"
    return ""


def check_serves_as_before(
    model: str, looked_at: LedgerState, ledger_state: LedgerState
) -> None:
    """`ReleaseError` where what serves is not what `judge` compared with.

    A brake that somebody pulled meanwhile must not be undone by a release from before it.
    """
    changed_at = ledger_state.model(model).changed_at
    if changed_at > looked_at.head.generation:
        raise ReleaseError(
            f"What serves as {model} was changed while a version of it was judged (entry "
            f"{changed_at}), so that this verdict compares with something else. Ask again."
        )


def _describe(body: Body, version: Judged | Release) -> str:
    """What an entry says of the version; empty where it is no matter of it."""
    # What a stolen key signed, approvals among it, is dropped from then on.
    if isinstance(body, KeyRevoked) and body.is_compromised:
        return _describe_stolen(body.key_id)
    if isinstance(body, ApprovalWithdrawn):
        is_about_it = body.model == version.model and body.version == version.version
        return _describe_taken_back(body.by) if is_about_it else ""
    # Reviews are of bytes, whichever number these have.
    if isinstance(body, ReviewOpened | Rated | ModelRated):
        is_about_it = body.package_sha256 == version.package_sha256
        return f"{body.by} entered a review of it" if is_about_it else ""
    return ""


def _describe_stolen(key_id: str) -> str:
    return f"key {key_id[:12]} was revoked as compromised"


def _describe_taken_back(by: str) -> str:
    return f"{by} took an approval of it back"
