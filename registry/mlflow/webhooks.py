"""MLflow rings the controller: one webhook of each home, kept pointing at its doorbell.

A delivery says nothing that counts, and one that is lost is made up for by the controller's timer
(MLflow tries four times within seconds, in any order, and keeps none).
"""

import hashlib
from typing import TYPE_CHECKING, Any, Literal

from registry.mlflow.connection import Connection, each_of_pages

if TYPE_CHECKING:
    from mlflow import MlflowClient

Event = Literal[
    "model_version_alias.created",
    "model_version_alias.deleted",
    "model_version_tag.set",
    "model_version_tag.deleted",
    "model_version.created",
]
EVENTS: tuple[Event, ...] = (
    "model_version_alias.created",
    "model_version_alias.deleted",
    "model_version_tag.set",
    "model_version_tag.deleted",
    "model_version.created",
)
"""After which of them there may be something to answer, or to put back."""
_PREFIX = "assay-doorbell-"
_ACTIVE = "ACTIVE"
_PAGE = 100


class Webhooks:
    """The webhooks of one MLflow, of which only a home's own are touched."""

    def __init__(self, connection: Connection) -> None:
        self._mlflow = connection

    def keep(self, url: str, key: str) -> bool:
        """Have one webhook ring at that address; gives whether anything had to be changed.

        `RegistryError` where MLflow keeps none, or not for this account.
        """
        name = webhook_name(key)
        own = [each for each in self._all() if each.name == name]
        # Two controllers that started at once may both have made one.
        for surplus in own[1:]:
            self._delete(surplus.webhook_id)
        if not own:
            self._create(name, url, key)
            return True
        kept = own[0]
        if _is_right(kept, url):
            return len(own) > 1
        self._update(kept.webhook_id, url, key)
        return True

    def _all(self) -> list[Any]:
        def fetch_page(token: str | None) -> Any:
            return self._mlflow.ask(
                lambda mlflow: mlflow.list_webhooks(
                    max_results=_PAGE,
                    page_token=token,
                )
            )

        return list(each_of_pages(fetch_page))

    def _create(self, name: str, url: str, key: str) -> None:
        def create(mlflow: "MlflowClient") -> Any:
            return mlflow.create_webhook(
                name,
                url,
                list(EVENTS),
                description="Rings the controller of Assay; it makes this by itself.",
                secret=key,
                status=_ACTIVE,
            )

        self._mlflow.ask(create)

    def _update(self, webhook_id: str, url: str, key: str) -> None:
        def update(mlflow: "MlflowClient") -> Any:
            # The secret, too: MLflow tells nobody which one it has.
            return mlflow.update_webhook(
                webhook_id,
                url=url,
                events=list(EVENTS),
                secret=key,
                status=_ACTIVE,
            )

        self._mlflow.ask(update)

    def _delete(self, webhook_id: str) -> None:
        self._mlflow.ask(lambda mlflow: mlflow.delete_webhook(webhook_id))


def webhook_name(key: str) -> str:
    """The name of the webhook of the home with that secret: no other home's is taken for it."""
    # A secret of 256 bits does not follow from a part of its digest.
    hashed = hashlib.sha256(key.encode())
    digest = hashed.hexdigest()
    beginning = digest[:16]
    return f"{_PREFIX}{beginning}"


def _is_right(webhook: Any, url: str) -> bool:
    events = {str(event) for event in webhook.events}
    is_active = str(webhook.status).endswith(_ACTIVE)
    has_events = events == set(EVENTS)
    return is_active and has_events and webhook.url == url


def let_service_keep_webhooks(service: str) -> None:
    """Have MLflow's login let that account keep webhooks, which it lets an admin do alone.

    Who may change them is then said by the guarded store: the service account.
    """
    from mlflow.server import auth

    plain = auth.sender_is_admin

    def is_service_or_admin() -> Any:
        account = auth.authenticate_request()
        is_service = getattr(account, "username", None) == service
        return is_service or plain()  # type: ignore[no-untyped-call]  # mlflow leaves it untyped

    # MLflow looks up a request's validator here at each request.
    for request in auth.WEBHOOK_BEFORE_REQUEST_VALIDATORS:
        auth.WEBHOOK_BEFORE_REQUEST_VALIDATORS[request] = is_service_or_admin
