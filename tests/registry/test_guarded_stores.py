"""What stands before a store's methods, whichever MLflow has them."""

import pytest
from mlflow.exceptions import MlflowException

from registry.mlflow import acting
from registry.mlflow.guarded_stores import guard_store, require_login


class Store:
    """As MLflow's next version might have one."""

    def get_thing(self) -> str:
        return "read"

    def set_thing(self, value: str) -> str:
        return f"set to {value}"

    def set_two_things(self) -> str:
        return self.set_thing("both")

    def rewrite_everything(self) -> str:
        return "rewritten"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(acting._Server, "takes_requests", True)
    rules = {"set_thing": require_login, "set_two_things": require_login}
    made: Store = guard_store(Store, rules)()
    return made


def account(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("registry.mlflow.guarded_stores.current_account", lambda: name)


@pytest.mark.parametrize("name", ["scientist", "manager", "admin", "assay", ""])
def test_a_method_without_a_rule_is_refused_to_everybody(
    store: Store, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    account(monkeypatch, name)
    with pytest.raises(MlflowException, match="does not offer that") as refused:
        store.rewrite_everything()
    assert refused.value.error_code == "PERMISSION_DENIED"


def test_a_method_that_reads_needs_no_rule_and_no_account(store: Store) -> None:
    assert store.get_thing() == "read"


def test_a_thread_without_an_account_changes_nothing(store: Store) -> None:
    with pytest.raises(MlflowException, match="Nobody is logged in"):
        store.set_thing("x")


def test_what_was_allowed_may_use_other_methods_of_the_store(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    account(monkeypatch, "scientist")
    assert store.set_two_things() == "set to both"


def test_the_server_prepares_its_own_database_before_it_takes_requests(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acting._Server, "takes_requests", False)
    assert store.rewrite_everything() == "rewritten"
