"""What the environment says of keys, cache, origins and TLS; a mistake is said at the start."""

from pathlib import Path

import pytest

from core.errors import ServingError
from serving.endpoint.public_settings import PublicSettings
from tests.support.certificates import write_certificate


def test_nothing_is_open_or_kept_by_default() -> None:
    assert PublicSettings.read() == PublicSettings()


def test_what_is_set_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = write_certificate(tmp_path)
    for name, setting in {
        "API_KEYS": "required",
        "ANSWER_CACHE_MB": "64",
        "ALLOWED_ORIGINS": "https://Chat.example, http://localhost:3000",
        "TLS_CERTIFICATE": str(certificate),
        "TLS_KEY": str(key),
    }.items():
        monkeypatch.setenv(f"ASSAY_{name}", setting)
    settings = PublicSettings.read()
    assert settings.always_asks
    assert settings.cache_bytes == 64_000_000
    assert settings.origins == ("https://chat.example", "http://localhost:3000")
    assert settings.tls is not None
    assert (settings.tls.certificate, settings.tls.key) == (certificate, key)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("API_KEYS", "off"),
        ("ANSWER_CACHE_MB", "-1"),
        ("ANSWER_CACHE_MB", "many"),
        ("ANSWER_CACHE_MB", "9" * 5000),
        # Digits, but of another script.
        ("ANSWER_CACHE_MB", "٣"),
        ("ALLOWED_ORIGINS", "*"),
        ("ALLOWED_ORIGINS", "chat.example"),
        ("ALLOWED_ORIGINS", "https://chat.example/page"),
        ("TLS_CERTIFICATE", "/nowhere.pem"),
        ("TLS_KEY", "/nowhere.pem"),
    ],
)
def test_a_mistake_is_said_with_the_settings_name(
    name: str, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"ASSAY_{name}", wrong)
    with pytest.raises(ServingError, match=f"ASSAY_{name}"):
        PublicSettings.read()


def test_a_key_of_another_certificate_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, _ = write_certificate(tmp_path / "one")
    _, key = write_certificate(tmp_path / "two")
    monkeypatch.setenv("ASSAY_TLS_CERTIFICATE", str(certificate))
    monkeypatch.setenv("ASSAY_TLS_KEY", str(key))
    with pytest.raises(ServingError, match="no certificate with its key"):
        PublicSettings.read()
