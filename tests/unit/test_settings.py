"""Settings: from the environment, checked, frozen."""

import hashlib
import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.server.run import unknown_settings
from app.settings import Settings


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("LRID_")]:
        monkeypatch.delenv(name)


def test_defaults_are_safe() -> None:
    settings = Settings()
    assert settings.host == "127.0.0.1"  # nobody is served by accident
    assert settings.admin_keys == ()
    assert settings.model_store.name == "model_store"


def test_environment_sets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRID_MAX_WINDOWS", "3")
    monkeypatch.setenv("LRID_DEVICE", "cpu")
    settings = Settings()
    assert (settings.max_windows, settings.device) == (3, "cpu")


def test_arguments_beat_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRID_PORT", "1234")
    assert Settings(port=4321).port == 4321


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LRID_PORT", "70000"),
        ("LRID_PORT", "tcp://10.0.0.1:80"),
        ("LRID_DEVICE", "tpu"),
        ("LRID_PRECISION", "int4"),
        ("LRID_WORKERS", "0"),
        ("LRID_BATCH_WAIT_MS", "-1"),
        ("LRID_MAX_UPLOAD_MB", "0"),
        ("LRID_SILENCE_DBFS", "3"),
        ("LRID_REQUEST_TIMEOUT_SECONDS", "0"),
        ("LRID_HOST", ""),  # every interface, to the system
        ("LRID_ADMIN_HOST", ""),
        ("LRID_API_KEYS", " , "),
        ("LRID_API_KEYS", f"key,sha256:{hashlib.sha256(b'').hexdigest().upper()}"),
        ("LRID_MODEL_STORE", ""),  # the working folder
        ("LRID_FEEDBACK_FILE", ""),
        ("LRID_TLS_CERTIFICATE", " "),
        ("LRID_FEEDBACK_MAX_MB", "inf"),
        ("LRID_UPLOADS_MAX_MB", "inf"),
        ("LRID_DRAIN_TIMEOUT_SECONDS", "1e400"),
    ],
)
def test_nonsense_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError, match=name.removeprefix("LRID_").lower()):
        Settings()


def test_a_track_must_fit_the_queue() -> None:
    with pytest.raises(ValidationError, match="LRID_MAX_WINDOWS=9 must not exceed LRID_QUEUE_MAX_ITEMS=8"):
        Settings(max_windows=9, queue_max_items=8)
    assert Settings(max_windows=8, queue_max_items=8).max_windows == 8


def test_unknown_arguments_are_refused() -> None:
    with pytest.raises(ValidationError, match="max_uploads_mb"):
        Settings.model_validate({"max_uploads_mb": 1})


def test_they_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(Settings(), "port", 1)  # noqa: B010


def test_every_setting_is_described() -> None:
    assert not [name for name, field in Settings.model_fields.items() if not field.description]


def test_keys_are_a_list_and_stay_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRID_API_KEYS", "first-key, second-key,")
    settings = Settings()
    assert [key.get_secret_value() for key in settings.api_keys] == ["first-key", "second-key"]
    assert "first-key" not in repr(settings)
    assert "first-key" not in settings.model_dump_json()


@pytest.mark.parametrize("key", ["sha256:", "sha256:abc", f"sha256:{'g' * 64}", f"sha256:{'0' * 65}"])
def test_a_hash_that_is_none_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ValidationError, match="64 hexadecimal digits") as raised:
        Settings.model_validate({"api_keys": f"other-key,{key}"})
    assert "other-key" not in str(raised.value)


def test_a_certificate_and_its_key_go_together(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="LRID_TLS_CERTIFICATE and LRID_TLS_KEY"):
        Settings(tls_certificate=tmp_path / "certificate.pem")


def test_misspelt_settings_are_noticed() -> None:
    environ = {"LRID_PORT": "1", "LRID_MAX_UPLOD_MB": "1", "LRID_DATA": "/data", "lrid_host": "x", "PATH": "y"}
    assert unknown_settings(environ) == ["LRID_MAX_UPLOD_MB"]


def test_more_than_one_process_is_rejected_with_what_to_do_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRID_WORKERS", "2")
    with pytest.raises(ValidationError, match=r"LRID_WORKERS=2 is not supported.*Run replicas behind a load balancer"):
        Settings()
