"""Settings that prefect, mlflow and other libraries read.

They turn off telemetry, progress lines and the Hugging Face hub, and keep proxies away from
requests to this machine.
"""

import os
import re
from contextlib import suppress
from pathlib import Path

from core.address import split_login
from core.children import SYSTEM_PID
from core.errors import AssayError, OperationError, RegistryError
from core.logs import keep_secrets_out_of_logs
from core.project import project_servers

_SETTINGS = {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "GIT_PYTHON_REFRESH": "quiet",
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "MLFLOW_ALLOW_MODEL_CODE_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    # Threads that wait longer than this sleep: spinning ones slow a shared machine down.
    "GOMP_SPINCOUNT": "20000",
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
    "PYTHONWARNINGS": "ignore::FutureWarning",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}
_OVER_HTTP = ("http://", "https://")
# What many providers write; SQLAlchemy accepts only `postgresql://`.
_OTHER_NAME = "postgres://"
_GIVE_LOGIN_SEPARATELY = (
    "Leave the login out of it: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, "
    "or MLFLOW_TRACKING_TOKEN."
)
_HOST_AND_PORT = re.compile(r"[A-Za-z0-9.-]+:\d{1,5}(?:/.*)?|localhost(?:/.*)?")
_QUOTES_AND_SPACES = "'\"`\u2018\u2019\u201c\u201d \t\r\n"
_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")


def set_library_environment() -> None:
    """Set what the person has not set otherwise; processes that this one starts inherit it."""
    # Before any of these libraries is imported: most read their settings then, and only then.
    for name, setting in _SETTINGS.items():
        os.environ.setdefault(name, setting)
    _bypass_proxies()
    _find_servers()
    _take_logins_out()
    keep_secrets_out_of_logs()


def _find_servers() -> None:
    """Take the servers that the project names where the environment names none."""
    # What `assay up` started was told by it which servers it uses.
    if SYSTEM_PID in os.environ:
        return
    for name, address in project_servers(Path.cwd()).items():
        if not os.environ.get(name):
            os.environ[name] = address


def mlflow_address() -> str | None:
    """`MLFLOW_TRACKING_URI` without a login; None where it is not set.

    The login is moved to the variables where MLflow's client looks for one. So no later layer and
    no process that this one starts has it in an address. `RegistryError` where the address is
    malformed, or its login has one part only.
    """
    address = os.environ.get("MLFLOW_TRACKING_URI", "")
    slip = _find_slip(address)
    if slip is not None:
        raise RegistryError(f"MLFLOW_TRACKING_URI {slip}")
    if address.startswith(_OTHER_NAME):
        address = f"postgresql://{address.removeprefix(_OTHER_NAME)}"
        os.environ["MLFLOW_TRACKING_URI"] = address
    if not address.lower().startswith(_OVER_HTTP):
        return address or None
    try:
        plain, login = split_login(address)
    except ValueError as error:
        # Without the cause: its traceback would show the address.
        raise RegistryError(
            f"MLFLOW_TRACKING_URI cannot be understood: {error}. {_GIVE_LOGIN_SEPARATELY}"
        ) from None
    if login is None:
        return plain
    # MLflow's client takes a login only where both variables are set.
    if not (login.user and login.password):
        raise RegistryError(
            f"MLFLOW_TRACKING_URI has a login of one part. {_GIVE_LOGIN_SEPARATELY}"
        )
    os.environ.update(
        MLFLOW_TRACKING_URI=plain,
        MLFLOW_TRACKING_USERNAME=login.user,
        MLFLOW_TRACKING_PASSWORD=login.password,
    )
    return plain


def prefect_address() -> str | None:
    """`PREFECT_API_URL` without a login; None where it is not set.

    The login is moved to `PREFECT_API_AUTH_STRING`. `OperationError` where the address is
    malformed.
    """
    address = os.environ.get("PREFECT_API_URL", "")
    if not address:
        return None
    slip = _find_slip(address)
    if slip is None and not address.lower().startswith(_OVER_HTTP):
        slip = "does not begin with http:// or https://. Write it so, with /api at its end."
    if slip is not None:
        raise OperationError(f"PREFECT_API_URL {slip}")
    try:
        plain, login = split_login(address)
    except ValueError as error:
        raise OperationError(
            f"PREFECT_API_URL cannot be understood: {error}. "
            "Give a login in PREFECT_API_AUTH_STRING, as USER:PASSWORD."
        ) from None
    if login is not None:
        os.environ.update(
            PREFECT_API_URL=plain,
            PREFECT_API_AUTH_STRING=f"{login.user}:{login.password}",
        )
    return plain


def _find_slip(address: str) -> str | None:
    """What was pasted wrongly, as the rest of a sentence that begins with the setting's name.

    A file of settings that quotes its values is not read by every program in the same way.
    """
    if address != address.strip(_QUOTES_AND_SPACES):
        return "begins or ends with a quote or a space. Write it without."
    is_over_http = address.lower().startswith(_OVER_HTTP)
    if is_over_http and len(address.split()) > 1:
        return "holds a space. Write it without; a space that is meant is %20."
    # MLflow would take it for a folder, and make that.
    if _HOST_AND_PORT.fullmatch(address):
        return "has no http:// or https:// in front. Write it so."
    return None


def _take_logins_out() -> None:
    """Move logins out of both addresses.

    A malformed address is reported by the command that needs it: a brake needs neither.
    """
    for take_login_out in (mlflow_address, prefect_address):
        with suppress(AssayError):
            take_login_out()


def _bypass_proxies() -> None:
    """Exclude this machine from proxies.

    Some libraries read only `no_proxy`, others only `NO_PROXY`: each gets what either excludes.
    """
    settings = {name: os.environ.get(name, "") for name in ("no_proxy", "NO_PROXY")}
    for name, own in settings.items():
        exclusions = own or settings["NO_PROXY"] or settings["no_proxy"]
        hosts = _split_hosts(exclusions)
        if "*" in hosts:
            # It means every host, to some libraries only where it is the whole setting.
            hosts = ["*"]
        else:
            hosts += [host for host in _THIS_MACHINE if host not in hosts]
        os.environ[name] = ",".join(hosts)


def _split_hosts(setting: str) -> list[str]:
    entries = [entry.strip() for entry in setting.split(",")]
    return [entry for entry in entries if entry]
