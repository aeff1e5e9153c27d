"""Where Assay keeps things and who acts come from the environment."""

import pytest

from core.settings import Settings


def test_a_variable_that_is_set_to_nothing_is_not_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("HOME", "USER", "LEDGER_URL", "NOTIFY"):
        monkeypatch.delenv(f"ASSAY_{name}", raising=False)
    unset = Settings()
    monkeypatch.setenv("ASSAY_HOME", "")
    monkeypatch.setenv("ASSAY_USER", "")
    assert Settings() == unset
    assert str(Settings().home) == ".assay"
