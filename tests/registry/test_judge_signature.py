"""What `judge` says of a package's signature, and how it is found."""

from pathlib import Path
from typing import Any

import pytest

from core.roles import PersonRole
from pipelines.values.verdict import Candidate, Rejection, Undecided
from registry.ledger.entries import KeyAdded, KeyRevoked
from registry.ledger.packaging_key import PackagingKey, create_packaging_key
from registry.release.judge import judge
from registry.release.judging.circumstances import Signature
from registry.release.package_signature import (
    SIGNATURE,
    digest_of_package,
    sign_package,
)
from registry.release.release import Subject, record_judgement
from registry.release.signer import find_signature
from tests.registry.test_judge import (
    FINALIST,
    circumstances,
    finding,
    policy,
    waiver,
)
from tests.support.fake_endpoint import Bench
from tests.support.ledgers import WHY, Chain, registered

FAULT = "p/adapter.json is not what was signed"


def judged(**changes: Any) -> Candidate | Rejection | Undecided:
    return judge(FINALIST, circumstances(**changes), policy())


def test_a_candidate_names_the_key_that_signed_it() -> None:
    verdict = judged()
    assert isinstance(verdict, Candidate)
    assert verdict.signed_by == "k" * 64


def test_a_version_without_a_signature_is_undecided_and_the_step_is_named() -> None:
    verdict = judged(signature=None)
    assert isinstance(verdict, Undecided)
    text = finding(verdict, "package_signature").text
    assert "bears no signature, the policy asks for one: `assay sign 7 --model" in text


def test_under_a_waiver_it_passes_and_no_key_is_named() -> None:
    verdict = judged(signature=None, waivers=(waiver("package_signature"),))
    assert isinstance(verdict, Candidate)
    assert verdict.signed_by is None


def test_a_signature_that_does_not_count_rejects_whatever_is_waived() -> None:
    for signature in (None, Signature(key_id="k" * 64, package_sha256="c" * 64)):
        verdict = judged(
            signature=signature,
            signature_fault=FAULT,
            waivers=(waiver("package_signature"),),
        )
        assert isinstance(verdict, Rejection)
        assert finding(verdict, "package_signature").text.startswith(f"{FAULT}: `assay")


def test_where_the_policy_asks_for_none_only_one_that_counts_is_named() -> None:
    asks_for_none = policy(package_signature_required=False)
    good = judge(FINALIST, circumstances(), asks_for_none)
    bad = judge(FINALIST, circumstances(signature_fault=FAULT), asks_for_none)
    missing = judge(FINALIST, circumstances(signature=None), asks_for_none)
    others = Signature(key_id="k" * 64, package_sha256="d" * 64)
    of_others = judge(FINALIST, circumstances(signature=others), asks_for_none)
    for verdict, key in (
        (good, "k" * 64),
        (bad, None),
        (missing, None),
        (of_others, None),
    ):
        assert isinstance(verdict, Candidate)
        assert verdict.signed_by == key


def test_the_ledger_holds_by_whom_a_candidate_is_signed_and_nobody_else(
    bench: Bench,
) -> None:
    subject = Subject("letters", "1", "c" * 64, None)
    rejected = judged(signature_fault=FAULT)
    ledger_state = record_judgement(bench.ledger, subject, rejected)
    assert ledger_state.judged[ledger_state.head.generation].signed_by is None


def test_the_ledger_holds_what_the_policy_asked_for_and_whom_it_let_waive(
    bench: Bench,
) -> None:
    """The next policy is compared with it; nobody at all is not the same as not on record."""
    policies: tuple[tuple[int | None, tuple[PersonRole, ...] | None], ...]
    policies = ((2, ("approver",)), (0, ()), (None, None))
    for asked, roles in policies:
        subject = Subject("letters", "1", "c" * 64, None, asked, roles)
        rejected = judged(signature_fault=FAULT)
        ledger_state = record_judgement(bench.ledger, subject, rejected)
        entry = ledger_state.judged[ledger_state.head.generation]
        assert (entry.approvals_asked, entry.waivers_by) == (asked, roles)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> PackagingKey:
    return create_packaging_key(tmp_path_factory.mktemp("home") / "keys/packaging.pem")


@pytest.fixture
def chain(key: PackagingKey) -> Chain:
    """The key is entry 2, and the version entry 3."""
    chain = Chain()
    chain.add(KeyAdded(by="olga", reason_sha256=WHY, key=key.public), registered())
    return chain


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "adapter.json").write_text("{}")
    return folder


def revoke(chain: Chain, key: PackagingKey, *, is_compromised: bool = False) -> None:
    chain.add(
        KeyRevoked(
            by="olga",
            reason_sha256=WHY,
            key_id=key.public.key_id,
            is_compromised=is_compromised,
        )
    )


def test_a_package_without_a_signature_has_none_and_no_fault(
    chain: Chain, package: Path
) -> None:
    found = find_signature(package, chain.ledger_state, 3)
    assert (found.signature, found.fault) == (None, "")


def test_a_signature_is_found_with_its_key_and_the_bytes_that_it_covers(
    chain: Chain, package: Path, key: PackagingKey
) -> None:
    sign_package(package, key)
    found = find_signature(package, chain.ledger_state, 3)
    assert found.signature == Signature(
        key_id=key.public.key_id, package_sha256=digest_of_package(package)
    )
    assert found.fault == ""


def test_the_signature_of_a_key_that_the_ledger_does_not_know_is_a_fault(
    package: Path, key: PackagingKey
) -> None:
    sign_package(package, key)
    found = find_signature(package, Chain().ledger_state, 1)
    assert found.signature is None
    assert "none that counts" in found.fault


def test_a_signature_over_other_files_is_a_fault_that_names_one(
    chain: Chain, package: Path, key: PackagingKey
) -> None:
    sign_package(package, key)
    (package / "more.json").write_text("")
    assert (
        "more.json is not signed"
        in find_signature(package, chain.ledger_state, 3).fault
    )
    (package / "more.json").unlink()
    (package / SIGNATURE).write_text("")
    assert "is no signature" in find_signature(package, chain.ledger_state, 3).fault


def test_a_link_that_leads_nowhere_is_no_missing_signature(
    chain: Chain, package: Path
) -> None:
    (package / SIGNATURE).symlink_to("nowhere")
    assert "symbolic link" in find_signature(package, chain.ledger_state, 3).fault


def test_a_rotated_key_counts_for_what_was_entered_before_and_a_stolen_one_for_nothing(
    chain: Chain, package: Path, key: PackagingKey
) -> None:
    sign_package(package, key)
    revoke(chain, key)
    assert find_signature(package, chain.ledger_state, 3).signature is not None
    later = find_signature(package, chain.ledger_state, 5)
    assert later.signature is None
    assert "was revoked at entry 4, before the version was entered" in later.fault
    revoke(chain, key, is_compromised=True)
    stolen = find_signature(package, chain.ledger_state, 3)
    assert stolen.signature is None
    assert "revoked as compromised (entry 5)" in stolen.fault
