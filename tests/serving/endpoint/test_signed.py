"""What the endpoint loads is signed as the ledger says: by first load, restart and rollback."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import AssayError, DamagedFile, UntrustedSignature
from registry.ledger.entries import PublicKey, Release
from registry.ledger.ledger import open_ledger
from registry.ledger.packaging_key import create_packaging_key
from registry.ledger.rotation import KeyOrder, rotate_role
from registry.ledger.state import LedgerState
from registry.release.package_signature import SIGNATURE, sign_package
from serving.endpoint.need import Need
from serving.endpoint.needs import list_needs
from serving.endpoint.package_watch import PackageWatch
from serving.endpoint.verify import verify
from tests.support.endpoint_system import MODEL, Home, endpoint
from tests.support.signed import (
    begin,
    judge,
    register,
    release_signed,
    revoke_key,
    sign,
)


def need_of(home: Home) -> Need:
    """What the endpoint is to load first, as its fleet works it out of the ledger."""
    ledger_state = home.ledger_state
    need = next(list_needs(ledger_state.model(MODEL)))
    return need.with_signer(ledger_state)


def load(home: Home) -> Release:
    need = need_of(home)
    return verify(home.path, need.recorded.release, need.signer).release


def refused(home: Home) -> str:
    with pytest.raises(AssayError) as caught:
        load(home)
    return str(caught.value)


def remove_signature(home: Home) -> None:
    (home.package("1") / SIGNATURE).unlink()


def empty_signature(home: Home) -> None:
    (home.package("1") / SIGNATURE).write_text("")


def sign_with_a_key_of_ones_own(home: Home) -> None:
    key = create_packaging_key(home.path / "elsewhere" / "packaging.pem")
    sign_package(home.package("1"), key)


def take_that_of_another_version(home: Home) -> None:
    sign(home, "2")
    shutil.copyfile(home.package("2") / SIGNATURE, home.package("1") / SIGNATURE)


def link_signature(home: Home) -> None:
    path = home.package("1") / SIGNATURE
    path.rename(home.path / SIGNATURE)
    path.symlink_to(home.path / SIGNATURE)


def change_weights(home: Home) -> None:
    with (home.package("1") / "adapter/adapter_model.safetensors").open("ab") as end:
        end.write(b" ")


def add_code(home: Home) -> None:
    (home.package("1") / "adapter/modeling.py").write_text("")


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        (remove_signature, "bears no signature"),
        (empty_signature, "is no signature of a package"),
        (sign_with_a_key_of_ones_own, "which is none that counts"),
        (take_that_of_another_version, "is not what was signed"),
        (link_signature, "symbolic link"),
        (change_weights, "holds other bytes"),
        (add_code, "holds other bytes"),
    ],
)
def test_a_signed_release_is_loaded_only_with_its_own_signature(
    home: Home, change: Callable[[Home], None], fact: str
) -> None:
    release_signed(home, "1")
    assert load(home).version == "1"
    change(home)
    assert fact in refused(home)


def test_a_release_from_before_packages_were_signed_is_loaded_as_it_was(
    home: Home,
) -> None:
    home.switch(home.begin("1"))
    assert load(home).signed_by is None
    # Nobody is to be fooled by a signature that the ledger does not know.
    sign_with_a_key_of_ones_own(home)
    assert load(home).signed_by is None


def test_a_release_under_a_waiver_of_the_signature_is_loaded_without_one(
    home: Home,
) -> None:
    judged = judge(home, "1", register(home, "1"), None)
    home.switch(begin(home, "1", judged, None))
    assert load(home).version == "1"


def test_a_rotation_takes_nothing_out_of_service(home: Home) -> None:
    key = release_signed(home, "1")
    ledger = open_ledger(home.path)
    new = rotate_role(ledger, "packaging", KeyOrder("olga", "every year"))
    assert new.key_id != key.key_id
    assert home.ledger_state.key(key.key_id) is None
    assert load(home).signed_by == key.key_id
    assert need_of(home).signer_compromised_at is None
    # The new key signs what comes, and does not stand for what the old one signed.
    assert sign(home, "1") == new
    assert "which is none that counts" in refused(home)


def test_a_stolen_key_takes_nothing_out_of_service_and_is_an_alarm(home: Home) -> None:
    key = release_signed(home, "1")
    at = revoke_key(home, key, is_compromised=True)
    assert load(home).version == "1"
    assert need_of(home).signer_compromised_at == at


def test_a_signer_that_the_ledger_does_not_hold_is_no_signer(home: Home) -> None:
    key = release_signed(home, "1")
    release = need_of(home).recorded.release
    with pytest.raises(UntrustedSignature, match="which the ledger does not hold"):
        verify(home.path, release, None)
    other = create_packaging_key(home.path / "elsewhere" / "packaging.pem").public
    with pytest.raises(UntrustedSignature, match="which the ledger does not hold"):
        verify(home.path, release, other)
    assert verify(home.path, release, key).release == release


def test_a_signature_that_goes_while_its_release_serves_is_noticed(home: Home) -> None:
    key = release_signed(home, "1")
    watch = PackageWatch(home.path, need_of(home).recorded.release, key)
    assert watch.look() == ""
    remove_signature(home)
    assert "bears no signature" in watch.look()


def test_bytes_are_looked_at_before_the_signature_is_parsed(home: Home) -> None:
    release_signed(home, "1")
    empty_signature(home)
    change_weights(home)
    with pytest.raises(DamagedFile, match="holds other bytes"):
        load(home)


def test_a_state_remembered_by_an_earlier_assay_has_no_revoked_keys(
    home: Home, tmp_path: Path
) -> None:
    home.switch(home.begin("1"))
    before = home.ledger_state.model_dump(mode="json", exclude={"revoked_keys"})
    assert LedgerState.model_validate(before) == home.ledger_state


@pytest.mark.ci
def test_signed_releases_are_loaded_restarted_and_rolled_back_with_a_stolen_key(
    home: Home,
) -> None:
    first: PublicKey = release_signed(home, "1")
    begun = home.ledger_state.model(MODEL).once_served[0].begun
    with endpoint(home) as running:
        home.wait(home.answers_with("1"))
        rotate_role(
            open_ledger(home.path), "packaging", KeyOrder("olga", "it is stolen")
        )
        release_signed(home, "2")
        home.wait(home.answers_with("2"))
        revoke_key(home, first, is_compromised=True)
        state = home.wait(lambda state: any("compromised" in a for a in state.alarms))
        assert any("version 1" in alarm.lower() for alarm in state.alarms)
        assert running.ask().headers["x-assay-release"] == "2"
        home.roll_back(begun)
        home.wait(home.answers_with("1"))
    # A start from nothing verifies both again, and refuses what lost its signature.
    remove_signature(home)
    with endpoint(home) as running:
        state = home.wait(lambda state: bool(state.alarms))
        assert any("bears no signature" in alarm for alarm in state.alarms), state
        assert running.ask().status_code == 503
