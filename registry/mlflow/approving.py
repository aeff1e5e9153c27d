"""Approvals on MLflow's version page: the tag `approve` becomes an entry of the ledger.

```
set tag approve = reason ─► may this person? ─► entry `approved`, signed by the key of the role
                                 └► 403          admission ─► the page's tag `assay.approvals`:
                                                 who approved, when, in which entry
set tag disapprove = reason, or delete tag approve ─► entry `approval_withdrawn`
```

The tag `approve` itself is not kept. What the page shows proves nothing: `judge` reads the ledger.
"""

from collections.abc import Callable
from typing import Any, NoReturn

from core.account import normalise_name
from core.errors import AssayError, ParameterError, ReleaseError
from registry.ledger.state import LedgerState
from registry.mlflow.acting import current_account
from registry.mlflow.desk import Desk, request_of
from registry.mlflow.guarded_stores import (
    APPROVE,
    WHOLE_SERVER,
    Reach,
    inside,
    is_inside,
)
from registry.mlflow.recorded import PACKAGE
from registry.release.approvals import (
    Target,
    approve,
    describe_approvals,
    withdraw,
)
from registry.release.people import read_people

APPROVALS = "assay.approvals"
"""Tag of a version page that the server writes: who approved, when, and in which entry."""
DISAPPROVE = "disapprove"
"""The tag that takes an approval back: MLflow lets only its managers of a model delete tags."""
_LONGEST_REASON = 2000
_DELETED = "The tag was deleted on the version's page in MLflow."


_Order = Callable[[Target, str], LedgerState]


def with_approvals(guarded: Any, desk: Desk, reach: Reach = WHOLE_SERVER) -> Any:
    """The guarded store of models, whose tag `approve` is an approval."""

    def is_everybodys(name: str) -> bool:
        return not reach.takes_approvals(name)

    def set_tag(store: Any, name: str, version: Any, tag: Any) -> None:
        kind = normalise_name(str(tag.key))
        if kind not in {APPROVE, DISAPPROVE} or is_everybodys(name):
            guarded.set_model_version_tag(store, name, version, tag)
            return
        _check_requested(tag.key)
        page = store.get_model_version(name, version)
        is_approval = kind == APPROVE
        order = _approval if is_approval else _withdrawal
        # An empty reason is refused by the order itself.
        reason = str(tag.value or "")
        ordered = order(desk, reason)
        changed = _act(page, ordered)
        # Shown last: a page never says what the ledger does not.
        show(
            store,
            page,
            changed,
        )

    def delete_tag(store: Any, name: str, version: Any, key: str) -> None:
        # `Approve` and full-width letters look like it to people.
        if normalise_name(str(key)) != APPROVE or is_everybodys(name):
            guarded.delete_model_version_tag(store, name, version, key)
            return
        _check_requested(key)
        page = store.get_model_version(name, version)
        order = _withdrawal(desk, _DELETED)
        show(store, page, _act(page, order))

    def show(store: Any, page: Any, text: str) -> None:
        from mlflow.entities.model_registry import ModelVersionTag

        tag = ModelVersionTag(APPROVALS, text)  # type: ignore[no-untyped-call]  # mlflow's own
        # On the server's own account: no person may write it.
        with inside():
            guarded.set_model_version_tag(store, page.name, page.version, tag)

    methods = {
        "set_model_version_tag": set_tag,
        "delete_model_version_tag": delete_tag,
    }
    return type(guarded.__name__, (guarded,), methods)


def _check_requested(key: str) -> None:
    """403 where a method of the store, and no person, would set it."""
    if is_inside() or not current_account():
        _refuse(f"The tag {key[:60]!r} is set on a version's page, by a person")


def _act(page: Any, order: _Order) -> str:
    """Carry an approval or its withdrawal out; gives what the page says from then on."""
    package = (page.tags or {}).get(PACKAGE)
    target = Target(
        str(page.name),
        str(page.version),
        package,
    )
    # Only the service account writes this tag.
    if package is None:
        _refuse(
            f"Assay did not register {target.place}, so nobody approves it here. "
            "Train it with `assay run`, or enter it with `assay adopt`."
        )
    try:
        ledger_state = order(target, current_account() or "")
    except (ReleaseError, ParameterError) as error:
        _refuse(str(error))
    except AssayError as error:
        _fail(str(error))
    return describe_approvals(target, ledger_state)


def _approval(desk: Desk, value: str) -> _Order:
    def order(target: Target, account: str) -> LedgerState:
        reason = _check_reason(value)
        request = request_of(account, reason)
        # Read at each order: a role that was taken away counts no more from then on.
        people = read_people(desk.project)
        admission = desk.admission()
        return approve(
            target,
            request,
            people,
            admission,
        )

    return order


def _withdrawal(desk: Desk, value: str) -> _Order:
    def order(target: Target, account: str) -> LedgerState:
        reason = _check_reason(value)
        request = request_of(account, reason)
        admission = desk.admission()
        return withdraw(
            target,
            request,
            admission,
        )

    return order


def _check_reason(value: str) -> str:
    reason = value.strip()
    if not reason:
        raise ParameterError(
            "The tag is empty. Give as its value why the version may be released, "
            "or why not: it goes on record."
        )
    return reason[:_LONGEST_REASON]


def _refuse(sentence: str) -> NoReturn:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

    raise MlflowException(sentence, error_code=PERMISSION_DENIED)


def _fail(sentence: str) -> NoReturn:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import INTERNAL_ERROR

    raise MlflowException(sentence, error_code=INTERNAL_ERROR)
