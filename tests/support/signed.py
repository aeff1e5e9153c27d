"""Releases of signed packages: enrolled key, signature, registration, verdict, full traffic."""

from registry.ledger.enrolment import enrol_packaging
from registry.ledger.entries import (
    Judged,
    KeyRevoked,
    PublicKey,
    Registered,
    Release,
    ReleaseBegun,
)
from registry.ledger.ledger import open_ledger
from registry.release.package_signature import sign_package
from tests.support.endpoint_system import Home
from tests.support.ledgers import WHY


def sign(home: Home, version: str) -> PublicKey:
    """Sign the package of a version with the home's key, which the ledger then trusts."""
    key = enrol_packaging(open_ledger(home.path), "ann")
    sign_package(home.package(version), key)
    return key.public


def register(home: Home, version: str) -> int:
    """Enter the version, as a run does; gives the generation."""
    adapter = home.specs[version].adapter_sha256
    assert adapter is not None
    entry = Registered(
        model=home.model,
        version=version,
        package_sha256=home.digests[version],
        adapter_sha256=adapter,
        evidence_sha256=WHY,
        verdict_sha256=WHY,
        policy_sha256=WHY,
        by="ann",
        logical_run=WHY,
    )
    return home.write(entry)


def judge(home: Home, version: str, registration: int, signed_by: str | None) -> int:
    """Enter a pass; gives the generation."""
    entry = Judged(
        model=home.model,
        version=version,
        package_sha256=home.digests[version],
        verdict="passed",
        verdict_sha256=WHY,
        policy_sha256=WHY,
        adapter_sha256=home.specs[version].adapter_sha256,
        registration=registration,
        signed_by=signed_by,
    )
    return home.write(entry)


def begin(home: Home, version: str, judged: int, signed_by: str | None) -> int:
    """Begin the release that was judged there; gives the generation."""
    release = Release(
        model=home.model,
        version=version,
        package_sha256=home.digests[version],
        spec=home.specs[version],
        known_answers_share=1.0,
        signed_by=signed_by,
    )
    beginning = ReleaseBegun(
        release=release, judged=judged, by="ann", reason_sha256=WHY
    )
    return home.write(beginning)


def release_signed(home: Home, version: str) -> PublicKey:
    """Sign, register, judge and release a version; gives the key that signed it."""
    key = sign(home, version)
    judged = judge(home, version, register(home, version), key.key_id)
    home.switch(begin(home, version, judged, key.key_id))
    return key


def revoke_key(home: Home, key: PublicKey, *, is_compromised: bool) -> int:
    """Enter that a key counts no more; gives the generation."""
    revoked = KeyRevoked(
        by="olga",
        reason_sha256=WHY,
        key_id=key.key_id,
        is_compromised=is_compromised,
    )
    return home.write(revoked)
