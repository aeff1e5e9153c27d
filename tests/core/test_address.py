"""What is shown of an address, however it is written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.address import (
    ADDRESSES,
    NOT_SHOWN,
    SECRETS,
    SEVERAL,
    Login,
    redact_secrets,
    shown,
    split_login,
)
from core.errors import AssayError, RegistryError

PLANTED = "s3cr3t-Pa55"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*ADDRESSES, *SECRETS, SEVERAL):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("https://kim:pw@mlflow.example.org/base", "https://mlflow.example.org/base"),
        (
            "http://kim:p@ss@host:5000",
            "http://host:5000",
        ),  # the @ of the password is not escaped
        ("http://[::1]:5000/x", "http://[::1]:5000/x"),
        ("http://host/x?token=abc#frag", "http://host/x"),
        (
            "postgresql+psycopg://u:***@h:5432/ledger",
            "postgresql+psycopg://h:5432/ledger",
        ),
        ("postgres://u:p@h1:5432,h2:5432/db", "postgres://h1:5432,h2:5432/db"),
        ("postgresql:///ledger?host=/run&password=abc", "postgresql:///ledger"),
        ("postgresql://u:pa/ss@h/db", f"postgresql://{NOT_SHOWN}"),
        ("postgresql://u:pa#ss@h/db", f"postgresql://{NOT_SHOWN}"),
        ("http://h/path?password=a@b", f"http://{NOT_SHOWN}"),
        ("http://kim:hunter-two", f"http://{NOT_SHOWN}"),  # the host was forgotten
        ("http://kim:hunter two@", "http://"),
        ("sqlite:////home/a@b/mlflow.db?x=1", "sqlite:////home/a@b/mlflow.db"),
        ("sqlite://kim:pw@h", f"sqlite://{NOT_SHOWN}"),
        ("slack://tokenA/tokenB/tokenC", f"slack://{NOT_SHOWN}"),
        ("kim:pw@host", NOT_SHOWN),
        ("ht tp://kim:pw@host", NOT_SHOWN),
        ("/srv/mlflow.db", "/srv/mlflow.db"),
        ("", ""),
    ],
)
def test_an_address_is_shown_without_its_login(address: str, expected: str) -> None:
    assert shown(address) == expected
    assert shown(shown(address)) == shown(address)


@given(
    st.text(st.sampled_from("@:/?#%[] ,;.=&aZ9"), max_size=12),
    st.text(st.sampled_from("@:/?#%. "), max_size=3),
)
def test_no_password_is_shown_whatever_letters_stand_around_it(
    before: str, behind: str
) -> None:
    for scheme in ("http", "postgresql", "postgres+psycopg", "mlflow", "sqlite"):
        assert PLANTED not in shown(
            f"{scheme}://kim:{before}{PLANTED}{behind}@host.example:5000/db"
        )


@pytest.mark.parametrize(
    ("address", "plain", "login"),
    [
        ("http://host:5000", "http://host:5000", None),
        ("http://kim:a%40b%25@host/x", "http://host/x", Login("kim", "a@b%")),
        ("http://kim:a@b:c@host", "http://host", Login("kim", "a@b:c")),
        ("http://token@host", "http://host", Login("token", "")),
    ],
)
def test_a_login_is_taken_out_of_an_address(
    address: str, plain: str, login: Login | None
) -> None:
    assert split_login(address) == (plain, login)


@pytest.mark.parametrize(
    "address",
    [
        f"http://kim:{PLANTED}",
        f"http://kim:a/{PLANTED}@host",
        f"kim:{PLANTED}@host",
        f"http://h?x={PLANTED}@y",
    ],
)
def test_an_address_that_cannot_be_understood_is_refused_without_being_told(
    address: str,
) -> None:
    with pytest.raises(ValueError, match="cannot be understood") as refused:
        split_login(address)
    assert PLANTED not in str(refused.value)


@pytest.mark.parametrize("name", [*ADDRESSES, *SECRETS, SEVERAL])
def test_no_error_of_assays_own_tells_a_secret_of_a_setting(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = (
        PLANTED
        if name in SECRETS
        else f"postgresql://kim:{PLANTED}@host/db"
        if name in ADDRESSES
        else f"json://kim:{PLANTED}@host/x"
    )
    monkeypatch.setenv(name, setting)
    told = (
        f"(connection to {setting} failed: {setting}. HTTPConnectionPool: user=kim "
        f"password={PLANTED}, {PLANTED})"
    )
    assert PLANTED not in str(RegistryError(told))
    assert PLANTED not in str(AssayError(told))


def test_what_is_no_secret_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_LEDGER_URL", "postgresql://assay:assay@h/ledger")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    monkeypatch.setenv(
        "ASSAY_NOTIFY", "json://127.0.0.1:8000/hook mailto://kim@mail.example"
    )
    text = "assay: see http://127.0.0.1:5000/#/runs/1 and a@b.example, 50% of https://example.org/?q=1."
    assert redact_secrets(text) == text
    assert redact_secrets("at http://u:longpassword@h:1/x.") == "at http://h:1/x."
