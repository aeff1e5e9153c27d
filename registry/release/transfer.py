"""What another installation says of a version: its ledger as an export, verified by a listed key.

A transfer is a folder with the record `transfer.json`, the export `ledger.jsonl` and the package.
Nothing of the package is believed before the ledger was: the export is a chain of its own, a key of
`environments.yaml` has signed in it, and its entry for the version names exactly these bytes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from core.errors import TransferRefused
from core.files import sha256_of
from core.value import Value
from registry.ledger.audit import read_export
from registry.ledger.chain import follow
from registry.ledger.entries import (
    Digest,
    Entry,
    Judged,
    Name,
    Number,
    OriginApproval,
    OriginConfirmation,
    OriginHead,
    PublicKey,
    Received,
    VersionContents,
)
from registry.ledger.export_signers import Signers, find_signers
from registry.ledger.received import find_origin_fault
from registry.ledger.state import LedgerState, ModelState, Registration
from registry.release.environments import FILE, Source
from registry.release.signer import find_signature

RECORD, LEDGER, PACKAGE = "transfer.json", "ledger.jsonl", "package"
_MOST_APPROVALS = 50


class TransferRecord(Value):
    """Which version a transfer is about: read before anything else of it."""

    format: Literal[1] = 1
    model: Name
    version: Number
    package_sha256: Digest
    ledger_sha256: Digest


@dataclass(frozen=True)
class OriginLedger:
    """The verified ledger of another installation, by the name that it has here."""

    name: str
    entries: tuple[Entry, ...]
    ledger_state: LedgerState

    @property
    def head(self) -> OriginHead:
        """How far it goes."""
        head = self.ledger_state.head
        return OriginHead(
            name=self.name,
            ledger_id=head.ledger_id,
            generation=head.generation,
            hash=head.hash,
        )


@dataclass(frozen=True)
class Vouched:
    """A version as the ledger of its origin vouches for it."""

    origin: OriginLedger
    record: TransferRecord
    registration: Registration
    transfer_sha256: str


def read_origin(export: Path, trusted: Mapping[str, Source]) -> OriginLedger:
    """Verify an export, and say whose it is by the key that signed in it.

    `TransferRefused` where no listed key did, or the one that did was stolen; `BrokenLedger` or
    `IllegalEntry` names the first bad entry.
    """
    listed = {source.ledger_key for source in trusted.values()}
    # First, since anybody may send, and a ledger may be long.
    found = find_signers(export, listed)
    if not found.is_listed:
        raise _unlisted(found)
    entries = read_export(export)
    ledger_state = follow(None, entries)
    signers = {entry.key_id for entry in entries}
    # To hold a key proves nothing: anybody can add another's public half to a ledger. An entry that
    # it signed vouches for every entry before, and for who may sign after.
    vouching = [name for name, each in trusted.items() if each.ledger_key in signers]
    # There is one: a listed key signed.
    name = vouching[0]
    _check_key(name, trusted[name].ledger_key, ledger_state)
    return OriginLedger(name, entries, ledger_state)


def _unlisted(found: Signers) -> TransferRefused:
    # Named, so that whoever runs this installation can compare them.
    shown = ", ".join(key_id[:12] for key_id in found.controllers)
    return TransferRefused(
        f"The ledger {found.ledger_id[:12]} (keys {shown}) is signed by none that "
        f"{FILE} lists under `receives_from`. Compare its key with what "
        "`assay audit keys --whole` prints there, and list it."
    )


def _check_key(name: str, key_id: str, ledger_state: LedgerState) -> None:
    known = ledger_state.known_key(key_id)
    # MLflow's server over there holds a key as well, and must not vouch for anything.
    if known is None or known.role != "controller":
        raise TransferRefused(
            f"Key {key_id[:12]}, which {FILE} lists for {name}, does not sign for its controller. "
            "List the controller's."
        )
    compromised = ledger_state.compromised_at(key_id)
    if compromised is not None:
        raise TransferRefused(
            f"Key {key_id[:12]} of {name} was revoked there as compromised (entry {compromised}). "
            f"Ask {name} for its new key, and list it in {FILE}."
        )


def check_follows(origin: OriginLedger, ledger_state: LedgerState) -> None:
    """`TransferRefused` where the origin's ledger is an older one than was read, or another."""
    fault = find_origin_fault(ledger_state, origin.head)
    known = ledger_state.origins.get(origin.name)
    if not fault and known is not None:
        at_known = origin.entries[known.generation - 1]
        # A longer ledger is a later one only where it holds what was read before.
        if at_known.hash != known.hash:
            fault = (
                f"entry {known.generation} of {origin.name} is another one than was read before: "
                "its ledger was rewritten"
            )
    if fault:
        raise TransferRefused(
            f"What came from {origin.name} is not believed: {fault}. "
            "Find out there who put an older or another ledger in its place."
        )


def read_record(folder: Path) -> TransferRecord:
    """The record of a transfer whose ledger's bytes are those that it names.

    `DamagedFile` or `TransferRefused` where it is not whole.
    """
    record = TransferRecord.read(folder / RECORD)
    # The record's own digest goes on record, and so it has to name all the rest.
    if sha256_of(folder / LEDGER) != record.ledger_sha256:
        raise TransferRefused(
            f"{LEDGER} is not the ledger that {RECORD} names. Send the version again."
        )
    return record


def vouch(folder: Path, origin: OriginLedger) -> Vouched:
    """The version of a transfer, once its origin's ledger holds these bytes and lets them go.

    `TransferRefused` with what the ledger there says against it.
    """
    record = read_record(folder)
    registration = find_fit(
        origin.ledger_state, origin.entries, record.model, record.version
    )
    # By digest and not by number: MLflow's numbers may have begun again there.
    if registration.made.package_sha256 != record.package_sha256:
        raise TransferRefused(
            f"Entry {registration.generation} of {origin.name} holds package "
            f"{registration.made.package_sha256[:12]} as version {record.version} of "
            f"{record.model}, sent is {record.package_sha256[:12]}. Send what is registered there."
        )
    return Vouched(
        origin,
        record,
        registration,
        transfer_sha256=sha256_of(folder / RECORD),
    )


def find_fit(
    ledger_state: LedgerState, entries: tuple[Entry, ...], model: str, version: str
) -> Registration:
    """How the version came into a ledger that says nothing against its leaving.

    Asked before it is sent and when it is received. `TransferRefused` with the first objection.
    """
    registration = ledger_state.registration(model, version)
    subject = f"Version {version} of {model}"
    if registration is None:
        raise TransferRefused(
            f"{subject} is not in the ledger that it comes from. Register it there first."
        )
    # One is enough to keep it: people mend one after the other.
    for objection in _objections(ledger_state, entries, registration):
        raise TransferRefused(f"{subject} stays where it is: {objection}.")
    return registration


def _objections(
    ledger_state: LedgerState, entries: tuple[Entry, ...], registration: Registration
) -> Iterator[str]:
    made = registration.made
    model = ledger_state.model(made.model)
    if registration.is_adopted:
        yield (
            f"a person answers for it there (entry {registration.generation}), and no run made it: "
            "whoever answers for it in the other place adopts it there"
        )
    is_revoked = made.version in model.revoked
    if is_revoked or made.adapter_sha256 in ledger_state.revoked_adapters:
        yield "it is revoked there: train another one"
    if made.adapter_sha256 in ledger_state.revoked_in_origin:
        yield "it is revoked where it was made: train another one"
    judged = _last_verdict(ledger_state, registration)
    if judged is None or ledger_state.judged[judged].verdict != "passed":
        yield "`judge` did not pass it there: `assay promote` it there first"
    # Without a verdict there is the registration alone.
    trusted_entries = {registration.generation, judged or registration.generation}
    for generation in sorted(trusted_entries):
        key_id = entries[generation - 1].key_id
        # What a stolen key signed may be the thief's.
        if ledger_state.compromised_at(key_id) is not None:
            yield (
                f"entry {generation} is signed by key {key_id[:12]}, which was stolen: "
                "train and judge it again"
            )


def _last_verdict(ledger_state: LedgerState, registration: Registration) -> int | None:
    """Generation of the last verdict on these very bytes."""
    made = registration.made
    generations = [
        generation
        for generation, verdict in ledger_state.judged.items()
        if _is_about(verdict, made)
    ]
    # The last one counts: a later verdict may have taken an earlier one back.
    return max(generations, default=None)


def _is_about(verdict: Judged, made: VersionContents) -> bool:
    is_same_model = verdict.model == made.model
    is_same_version = verdict.version == made.version
    # MLflow's numbers begin again at 1 where it was lost.
    is_same_package = verdict.package_sha256 == made.package_sha256
    return is_same_model and is_same_version and is_same_package


def find_signer(package: Path, vouched: Vouched) -> PublicKey | None:
    """The packaging key of the origin that signed the package; None where it bears no signature.

    `TransferRefused` where its signature does not count there.
    """
    ledger_state = vouched.origin.ledger_state
    found = find_signature(package, ledger_state, vouched.registration.generation)
    # Not left to the policy: a signature that does not count was exchanged by somebody.
    if found.fault:
        raise TransferRefused(
            f"The package is not signed as {vouched.origin.name} signs: {found.fault}. "
            "Sign it there with `assay sign`, and send it again."
        )
    if found.signature is None:
        return None
    return ledger_state.known_key(found.signature.key_id)


def entry_of(vouched: Vouched, version: str, signer: PublicKey | None) -> Received:
    """The entry by which this ledger holds the version, under the number that it has here."""
    registration, origin = vouched.registration, vouched.origin
    made = registration.made.model_copy(update={"version": version})
    earlier = registration.received
    return Received(
        **made.model_dump(),
        by=registration.by,
        account=registration.account,
        origin=origin.head,
        version_there=registration.made.version,
        entered_there=registration.generation,
        # On its way through several installations it grows older.
        made_at=registration.at if earlier is None else earlier.made_at,
        signer=signer,
        approvals=_approvals(origin.ledger_state, registration),
        released_by=_released_by(origin.ledger_state, registration),
        transfer_sha256=vouched.transfer_sha256,
        confirmation=_confirmation(origin.ledger_state, registration),
    )


def _confirmation(
    ledger_state: LedgerState, registration: Registration
) -> OriginConfirmation | None:
    """The last block that its adapter opened there and that was closed; None where none was."""
    made, received = registration.made, registration.received
    found = None if received is None else received.confirmation
    for recorded in ledger_state.confirmations_of(made.model):
        is_of_it = recorded.opened.adapter_sha256 == made.adapter_sha256
        if is_of_it and recorded.closed is not None:
            found = OriginConfirmation(
                generation=recorded.generation,
                opened=recorded.opened,
                closed=recorded.closed,
            )
    return found


def _approvals(
    ledger_state: LedgerState, registration: Registration
) -> tuple[OriginApproval, ...]:
    made = registration.made
    given = []
    for approval in ledger_state.approvals:
        is_same_version = approval.version == made.version
        is_same_package = approval.package_sha256 == made.package_sha256
        if approval.model != made.model or not (is_same_version and is_same_package):
            continue
        carried = OriginApproval(
            by=approval.by,
            account=approval.account,
            at=approval.at,
        )
        given.append(carried)
    # An entry is read by everybody, for good: it does not grow without end.
    return tuple(given[:_MOST_APPROVALS])


def _released_by(ledger_state: LedgerState, registration: Registration) -> str | None:
    made = registration.made
    model: ModelState = ledger_state.model(made.model)
    # Of these very bytes, under the number that they had there.
    names = [
        recorded.by
        for recorded in model.once_served
        if recorded.release.version == made.version
        and recorded.release.package_sha256 == made.package_sha256
    ]
    return names[-1] if names else None


def find_revoked(origin: OriginLedger, ledger_state: LedgerState) -> tuple[str, ...]:
    """Adapters that came from that installation and are revoked there by now."""
    there = origin.ledger_state
    # Also what its own origin revoked: it reaches this one through it.
    revoked = there.revoked_adapters.keys() | there.revoked_in_origin.keys()
    held = set()
    for registration in ledger_state.registrations.values():
        received = registration.received
        if received is not None and received.origin.name == origin.name:
            adapter = registration.made.adapter_sha256
            held.add(adapter)
    # In order, so that the same ledger gives the same entry.
    return tuple(sorted(held & revoked))
