"""What `assay up` says of the team's servers, and on a system that is not Linux."""

import pytest

from core.errors import OperationError
from operations.services import Ports
from operations.up import describe_unused_servers, run_up


def test_settings_that_are_not_used_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL"):
        monkeypatch.setenv(name, "")
    assert describe_unused_servers() is None
    monkeypatch.setenv("PREFECT_API_URL", "http://kim:pa55word-9@prefect.example/api")
    said = describe_unused_servers()
    assert said is not None
    assert said.startswith("`assay up` does not use PREFECT_API_URL: it runs servers")
    assert "pa55word" not in said
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example")
    assert "MLFLOW_TRACKING_URI and PREFECT_API_URL" in (
        describe_unused_servers() or ""
    )


def test_on_macos_it_ends_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "operations.up.describe_untried_system", lambda: "This is darwin."
    )
    with pytest.raises(OperationError, match="This is darwin"):
        run_up(Ports(), opens_browser=False)
