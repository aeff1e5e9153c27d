"""What is said of a login that MLflow's server does not know."""

import pytest

from core.errors import OperationError
from registry.mlflow.logins import Login, verify_login
from tests.support.impostors import Reply, answering


@pytest.mark.parametrize(
    ("target", "step"),
    [
        ("", "`assay login` again, or `assay logout`"),
        ("prod", "`assay login ann --to prod` again."),
    ],
)
def test_a_wrong_password_is_answered_with_the_command_for_that_installation(
    target: str, step: str
) -> None:
    with answering(lambda _: Reply(401)) as (url, _):
        login = Login(server=url, user="ann", password="wrong")
        with pytest.raises(OperationError) as told:
            verify_login(login, target)
    assert step in str(told.value)
