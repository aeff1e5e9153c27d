"""Settings that prefect, mlflow and the rest read: no telemetry, no chatter, no hub, and no proxy to this machine."""

import os

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
    "GOMP_SPINCOUNT": "20000",  # threads that wait longer give way: on a shared machine spinning ones slow everything down
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
    "PYTHONWARNINGS": "ignore::FutureWarning",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}
_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")


def quieten() -> None:
    """Set what the person has not set otherwise; whoever this process starts inherits it."""
    for name, setting in _SETTINGS.items():
        os.environ.setdefault(name, setting)
    _pass_by_proxies()


def _pass_by_proxies() -> None:
    """Keep a proxy from what is asked of this machine. Some libraries read the one name, some the other, and each only that."""
    given = {name: os.environ.get(name, "") for name in ("no_proxy", "NO_PROXY")}
    for name, own in given.items():
        hosts = [host.strip() for host in (own or given["NO_PROXY"] or given["no_proxy"]).split(",") if host.strip()]
        more = [host for host in _THIS_MACHINE if host not in hosts]
        # A star means every host, to some libraries only where it stands alone.
        os.environ[name] = "*" if "*" in hosts else ",".join([*hosts, *more])
