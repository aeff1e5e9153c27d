"""MLflow's server over the database of a home, with its users.

`python -m registry.mlflow.server --home DIR --project DIR --port N`

Artifacts are where the command line without a server puts them, so that either finds what the other
made. What Assay recorded is changed by the service account alone (`registry/mlflow/guard.py`).
"""

import argparse
import os
import secrets
import sys
from pathlib import Path

from core.console import say
from core.errors import RegistryError
from core.locks import serve_records
from core.private_file import secret
from registry.mlflow.accounts import make_accounts, write_settings
from registry.mlflow.desk import Desk, prepare_desk
from registry.mlflow.own_database import own_database


def main(arguments: list[str]) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    from core.lifetime import end_with_the_run
    from core.logs import keep_secrets_out_of_logs

    keep_secrets_out_of_logs()
    parser = argparse.ArgumentParser(prog="python -m registry.mlflow.server")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument(
        "--project", type=Path, required=True, help="whose people.yaml holds"
    )
    options = parser.parse_args(arguments)
    # Before anything slow: a supervisor that dies meanwhile must not leave this process behind.
    end_with_the_run()
    home = options.home.resolve()
    # Held until the end: the records are not moved under a server that writes them.
    with serve_records(home):
        try:
            database = own_database(home)
            # Before MLflow is imported: it reads its settings then.
            os.environ.update(_settings(home, database, options.port))
            _prepare(database, Desk(home, options.project.resolve()))
        # The last line of a log is what a person is shown.
        except RegistryError as error:
            say(str(error))
            return 1
        return _serve(options.port)


def _settings(home: Path, database: str, port: int) -> dict[str, str]:
    """The environment that MLflow reads when it is imported.

    The names that begin with an underscore are how `mlflow server` configures its workers; this
    process is the worker.
    """
    hosts = (f"127.0.0.1:{port}", f"localhost:{port}")
    origins = [f"http://{host}" for host in hosts]
    # Kept between starts: new ones would end all logins, and make webhooks unreadable.
    session_key = secret(home / "keys/mlflow-sessions", lambda: secrets.token_hex(32))
    webhook_key = secret(home / "keys/mlflow-webhooks", _fernet_key)
    return {
        "MLFLOW_ALLOW_MODEL_CODE_EXECUTION": "false",
        "MLFLOW_AUTH_CONFIG_PATH": str(write_settings(home)),
        "MLFLOW_BASIC_AUTH_FAIL_CLOSED": "true",
        "MLFLOW_ENABLE_WORKSPACES": "false",
        "MLFLOW_FLASK_SERVER_SECRET_KEY": session_key,
        # Pages of other sites, and names that lead here by a foreign DNS, are refused.
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(hosts),
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(origins),
        "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "false",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        # The controller's doorbell is on this machine. Who may have the server ask an address
        # there is said by `guarded_stores.py`.
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
        "MLFLOW_WEBHOOK_CACHE_TTL": "5",
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": webhook_key,
        # `make_accounts` creates the admin, with a password that is not MLflow's default.
        "_MLFLOW_AUTH_ADMIN_BOOTSTRAPPED": "true",
        "_MLFLOW_IN_JOB_EXECUTOR": "false",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": (home / "mlflow-artifacts").as_uri(),
        "_MLFLOW_SERVER_BOOT_ID": secrets.token_hex(16),
        "_MLFLOW_SERVER_FILE_STORE": database,
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "false",
        "_MLFLOW_SGI_NAME": "uvicorn",
    }


def _fernet_key() -> str:
    from cryptography.fernet import Fernet

    return Fernet.generate_key().decode()


def _prepare(database: str, desk: Desk) -> None:
    from registry.mlflow.guard import install_guards
    from registry.mlflow.store import Store

    home = desk.home
    install_guards(desk)
    make_accounts(home)
    prepare_desk(desk)
    # Asking for any run creates the experiment where it is missing, with its artifacts where
    # the command line puts them.
    store = Store(database, home / "leases")
    store.runs.find("0" * 64)


def _serve(port: int) -> int:
    import mlflow.server
    import uvicorn

    from registry.mlflow.guard import guarded_app

    mlflow_file = Path(mlflow.server.__file__)
    log_config = str(mlflow_file.with_name("uvicorn_log_config.yaml"))
    uvicorn.run(
        guarded_app(),
        host="127.0.0.1",
        port=port,
        log_config=log_config,
        timeout_graceful_shutdown=10,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
