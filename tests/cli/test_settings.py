"""`oo-ml settings`, and errors in settings."""

from pathlib import Path
from typing import Any

import pytest

from oo_ml.settings import Settings
from tests.commands import Done, oo_ml

NESTING = "OO_ML_LANE_LOCK_TIMEOUT <= OO_ML_LOCK_TIMEOUT <= OO_ML_STATEMENT_TIMEOUT <= OO_ML_REQUEST_TIMEOUT must hold"


def test_printed_settings() -> None:
    """Every setting is printed with its value and its whole name, and secrets are hidden."""
    done = oo_ml(
        "settings",
        COLUMNS=80,
        OO_ML_ALPHA=0.25,
        OO_ML_DATABASE_URL="postgresql://u:open-sesame@db.example.org/d",
        LITELLM_MASTER_KEY="sk-open-sesame",
        TIP_PROMPT_VERSION="v1,v2-mentor",
    )
    assert (done.code, done.err) == (0, "")
    heading, *lines = done.out.splitlines()
    assert heading.split("\t") == ["setting", "value", "meaning"]
    values = {name: value for name, value, _ in (line.split("\t") for line in lines)}
    assert set(values) == {Settings.variable(name) for name in Settings.model_fields}
    assert values["OO_ML_ALPHA"] == "0.25"
    assert values["TIP_PROMPT_VERSION"] == "v1,v2-mentor"
    assert values["OO_ML_DATABASE_URL"] == values["LITELLM_MASTER_KEY"] == "**********"
    assert "sesame" not in done.out


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({"OO_ML_EPSILON": "1.5"}, "OO_ML_EPSILON: Input should be less than or equal to 1"),
        ({"OO_ML_STATEMENT_TIMEOUT": "7"}, NESTING),
        ({"OO_ML_LANE_LOCK_TIMEOUT": "1.2"}, NESTING),
        (
            {"OO_ML_ADMIN_KEY": "sésame-sésame-sésame"},
            "OO_ML_ADMIN_KEY: must be at least 16 printable characters of ASCII, such as `openssl rand -hex 32` prints",
        ),
        (
            {"OO_ML_ALLOWED_HOSTS": "ml.example.com:8000"},
            "OO_ML_ALLOWED_HOSTS: must be names or addresses without scheme and port, such as ml.example.com",
        ),
        (
            {"OO_ML_CORS_ORIGINS": "https://app.example.com/"},
            "OO_ML_CORS_ORIGINS: must be a comma list of origins like https://app.example.com",
        ),
    ],
)
def test_invalid_settings(variables: dict[str, str], line: str) -> None:
    """An invalid setting is one line with its name and the reason, without its value."""
    assert oo_ml("settings", **variables) == Done(1, "", f"error: {line}\n")


@pytest.mark.parametrize("url", ["mysql://u:sesame@db/d", "postgresql://u:sesame@db:port/d"])
def test_invalid_database_url(url: str) -> None:
    """An invalid OO_ML_DATABASE_URL is one line that does not show it, because it may contain a password."""
    done = oo_ml("db", "current", OO_ML_DATABASE_URL=url)
    assert done.code == 1
    assert len(done.err.splitlines()) == 1
    assert done.err.startswith("error: OO_ML_DATABASE_URL ")
    assert "sesame" not in done.err


@pytest.mark.parametrize("variable", ["OO_ML_DATABASE_WORKERS", "OO_ML_LANES", "OO_ML_LANE_BATCH", "OO_ML_LANE_QUEUE"])
def test_invalid_settings_of_serve(variable: str) -> None:
    """`serve` validates its settings before it connects to a database."""
    variables: dict[str, Any] = {variable: 0}
    assert oo_ml("serve", **variables) == Done(1, "", f"error: {variable}: Input should be greater than 0\n")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("OO_ML_EPSILONN", "OO_ML_EPSILONN: there is no such setting; did you mean OO_ML_EPSILON?"),
        ("OO_ML_REDIS", "OO_ML_REDIS: there is no such setting"),
        ("oo_ml_epsilonn", "OO_ML_EPSILONN: there is no such setting; did you mean OO_ML_EPSILON?"),
        ("OO_ML_PORT", "OO_ML_PORT: there is no such setting"),
        ("OO_ML_ALPHA_FILE", "OO_ML_ALPHA_FILE: there is no such setting; did you mean OO_ML_ALPHA?"),
    ],
)
def test_unknown_settings(name: str, line: str) -> None:
    """A misspelled setting stops every command, with the nearest name that exists."""
    variables: dict[str, Any] = {name: "1"}
    assert oo_ml("settings", **variables) == Done(1, "", f"error: {line}\n")


def test_service_links() -> None:
    """The variables that Kubernetes sets for a Service called oo-ml are no settings."""
    links: dict[str, Any] = {
        "OO_ML_SERVICE_HOST": "10.0.0.1",
        "OO_ML_SERVICE_PORT_HTTP": "80",
        "OO_ML_PORT": "tcp://10.0.0.1:80",
        "OO_ML_PORT_80_TCP_ADDR": "10.0.0.1",
    }
    assert oo_ml("settings", **links).code == 0


def test_secrets_from_files(tmp_path: Path) -> None:
    """A secret can be in a file; white space around it is left out, and neither file nor secret is printed."""
    file = tmp_path / "key"
    file.write_text("  open-sesame-open-sesame\n", "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OO_ML_ADMIN_KEY_FILE", str(file))
        patch.setenv("LITELLM_MASTER_KEY_FILE", str(file))
        settings = Settings()
    for secret in (settings.admin_key, settings.litellm_master_key):
        assert secret is not None
        assert secret.get_secret_value() == "open-sesame-open-sesame"


def test_unreadable_secrets(tmp_path: Path) -> None:
    """A file that can't be read, or a secret that is given twice, is one line with the name of the setting."""
    missing: dict[str, Any] = {"OO_ML_ADMIN_KEY_FILE": tmp_path / "missing"}
    line = "OO_ML_ADMIN_KEY_FILE: the file can't be read: No such file or directory"
    assert oo_ml("settings", **missing) == Done(1, "", f"error: {line}\n")
    twice = missing | {"OO_ML_ADMIN_KEY": "open-sesame-open-sesame"}
    line = "Set OO_ML_ADMIN_KEY or OO_ML_ADMIN_KEY_FILE, not both"
    assert oo_ml("settings", **twice) == Done(1, "", f"error: {line}\n")


def test_white_space_around_values() -> None:
    """White space around a value, as a file of variables may leave it, is no part of it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("LITELLM_URL", "TIP_PROMPT_VERSION", "OO_ML_ALPHA", "OO_ML_LOG_LEVEL"):
            value = {"LITELLM_URL": "http://gateway:4000", "TIP_PROMPT_VERSION": "v1", "OO_ML_ALPHA": "2"}.get(
                name, "debug"
            )
            patch.setenv(name, f" {value}\t\n")
        settings = Settings()
    assert (settings.litellm_url, settings.tip_prompt_version, settings.alpha) == ("http://gateway:4000", "v1", 2)
    assert settings.log_level == "debug"


@pytest.mark.parametrize("url", ["http://gateway:4000/a\nb", "http://gate way", "http://gateway:0", "gateway:4000"])
def test_invalid_gateway(url: str) -> None:
    """An address that can't work is refused at the start, in one sentence."""
    line = "LITELLM_URL: must be an address like http://localhost:4000"
    assert oo_ml("settings", LITELLM_URL=url) == Done(1, "", f"error: {line}\n")
