"""Aliases of Assay's models in MLflow: a wish is admitted or refused before the alias moves.

Whatever route, encoding or client asked, MLflow's store is called to move an alias; this module
stands there. `release` is a release manager's wish, which the controller answers. The other aliases
follow the ledger, and are the service account's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from threading import BoundedSemaphore
from typing import Any

from core.account import MLFLOW
from core.errors import AssayError, RegistryError
from registry.mlflow.desk import Desk, request_of
from registry.mlflow.guarded_stores import (
    Call,
    Rule,
    all_of,
    check_model_tags,
    inside,
    normalize,
    require_login,
    tag_keys,
)
from registry.mlflow.recorded import (
    ANCHOR,
    CHALLENGER,
    CHAMPION,
    PACKAGE,
    RELEASE,
    RELEASE_NOTE,
    RELEASE_REASON,
)
from registry.release.doorbell import ring
from registry.release.people import read_people
from registry.release.wishing import Subject, WishDesk

_LONGEST_REASON = 2000
_RESERVED = frozenset({RELEASE, CHAMPION, CHALLENGER, ANCHOR})
_NAMES_ITS_ALIAS = (
    "The alias {alias} follows the ledger and is moved by the account {service!r} alone. "
    "Set the alias `release` on the page of the version that is to serve"
)
_NO_ROLE = (
    "{by} is no release manager of this project. "
    "Ask {managers}, or have people.yaml give {by} that role"
)
_TAGGING = (
    "set_model_version_tag",
    "delete_model_version_tag",
    "set_prompt_version_tag",
    "delete_prompt_version_tag",
)
_MOST_AT_ONCE = 4
_TOO_MANY = "Too many wishes wait for their answer. Set the alias again in a minute"
_NO_REASON = (
    "Say first why version {version} is to be released: set the tag `release_reason` on its page, "
    "then the alias again"
)
_NOT_DELETED = {
    RELEASE: "What was released last goes on answering. Set `release` on the version that is to "
    "serve instead, or have the base answer with `assay serve-base`",
    CHAMPION: "The alias champion says what has full traffic. Set `release` on the version that is "
    "to serve instead, or have the base answer with `assay serve-base`",
    CHALLENGER: "The alias challenger is that of the newest version that passed. "
    "Revoke that version to take it out: `assay revoke`",
}


@dataclass(frozen=True)
class Admission:
    """The rules of aliases, for the people of one project."""

    desk: Desk

    @property
    def rules(self) -> Mapping[str, Rule]:
        """By the method of MLflow's store of models."""
        return {
            "set_registered_model_alias": self.admit,
            "delete_registered_model_alias": self.refuse_deletion,
            **dict.fromkeys(_TAGGING, all_of(check_model_tags, self.check_reason)),
        }

    def admit(self, call: Call) -> None:
        """Let an alias move, or refuse with the reason: `MlflowException`."""
        if call.is_by_service:
            return
        require_login(call)
        alias = str(call.arguments["alias"])
        self._require_plain_letters(call, alias)
        # Other people's models, and aliases that Assay knows nothing of, are theirs.
        if not self._is_governed(call, alias):
            return
        # Letters of another width would be another alias that looks like this one.
        if alias not in _RESERVED:
            call.refuse(f"Write the alias as {normalize(alias)}, and nothing like it")
        if alias in {CHAMPION, CHALLENGER}:
            service = call.reach.service
            call.refuse(_NAMES_ITS_ALIAS.format(alias=alias, service=service))
        # `anchor` is what later versions must not fall behind, so that it is the manager's, too.
        self._require_manager(call)
        if alias == RELEASE:
            self._take_wish(call)

    def check_reason(self, call: Call) -> None:
        """Let release managers alone say why: the wish that follows puts it under their name."""
        if call.is_by_service:
            return
        name = str(call.arguments["name"])
        keys = map(normalize, tag_keys(call.arguments))
        if RELEASE_REASON in keys and call.reach.holds_model(call.store, name):
            self._require_manager(call)

    def _require_plain_letters(self, call: Call, alias: str) -> None:
        """Refuse letters of other scripts: some look like those of `release` to people."""
        name = str(call.arguments["name"])
        if alias.isascii():
            return
        is_governed = call.reach.holds_model(call.store, name)
        # Models of others are named as their people like.
        if is_governed:
            call.refuse("Write an alias of this model in letters of ASCII")

    def refuse_deletion(self, call: Call) -> None:
        """Let nobody take an alias of Assay's away: `MlflowException`."""
        if call.is_by_service:
            return
        require_login(call)
        alias = str(call.arguments["alias"])
        if not self._is_governed(call, alias):
            return
        # What later versions must not fall behind is a release manager's choice.
        if normalize(alias) == ANCHOR:
            self._require_manager(call)
            return
        call.refuse(_NOT_DELETED[normalize(alias)])

    def _is_governed(self, call: Call, alias: str) -> bool:
        """Whether it is an alias of Assay's, on a model with versions of Assay's."""
        if normalize(alias) not in _RESERVED:
            return False
        name = str(call.arguments["name"])
        return call.reach.holds_model(call.store, name)

    def _require_manager(self, call: Call) -> None:
        by = call.by
        try:
            people = read_people(self.desk.project)
        # Nobody has a role while the file cannot be read.
        except AssayError as error:
            call.refuse(_as_fact(error))
            raise
        if not people.has_role(by, f"{MLFLOW}{by}", "release_manager"):
            names = " or ".join(people.list_with_role("release_manager"))
            managers = names or "an admin to name one in people.yaml"
            call.refuse(_NO_ROLE.format(by=by, managers=managers))

    def _take_wish(self, call: Call) -> None:
        """Hand the wish in, and let the alias move once it is granted."""
        # Asked of the store, so that 03 and full-width digits are the version that they name.
        version = call.store.get_model_version(
            call.arguments["name"], str(call.arguments["version"])
        )
        number = str(version.version)
        reason = str(version.tags.get(RELEASE_REASON) or "").strip()
        if not reason:
            call.refuse(_NO_REASON.format(version=number))
        # MLflow answers by a few threads, and a wish holds one of them until it is answered.
        if not self._places.acquire(blocking=False):
            call.refuse(_TOO_MANY)
        try:
            request = request_of(call.by, reason[:_LONGEST_REASON])
            subject = Subject(str(version.name), number, self._package_of(version))
            answer = self._wishes.hand_in(subject, request)
        except AssayError as error:
            call.refuse(_as_fact(error))
            raise
        finally:
            self._places.release()
        if not answer.is_granted:
            call.refuse(answer.text.strip().rstrip("."))
        # The server's own changes: the wish is granted, whatever the person may do by now.
        with inside():
            # A reason is for one wish: the next one says its own.
            call.store.delete_model_version_tag(version.name, number, RELEASE_REASON)
            # That the alias was put back once is no more so. No person may delete that tag.
            if RELEASE_NOTE in version.tags:
                call.store.delete_model_version_tag(version.name, number, RELEASE_NOTE)

    def _package_of(self, version: Any) -> str:
        """The bytes that the page is about; `RegistryError` where the ledger holds others."""
        # Only the service account writes this tag.
        package = str((version.tags or {}).get(PACKAGE) or "")
        ledger_state = self._wishes.ledger.state()
        registration = ledger_state.registration(
            str(version.name), str(version.version)
        )
        if registration is None or registration.made.package_sha256 != package:
            raise RegistryError(
                f"The ledger does not hold version {version.version} of {version.name} with the "
                "bytes of this page: train it again, or answer for it with `assay adopt`."
            )
        return package

    @cached_property
    def _places(self) -> BoundedSemaphore:
        return BoundedSemaphore(_MOST_AT_ONCE)

    @cached_property
    def _wishes(self) -> WishDesk:
        # At the first wish and not at the start: MLflow's pages are there without a ledger, too.
        ledger = self.desk.admission()
        return WishDesk(ledger, partial(ring, self.desk.home))


def _as_fact(error: AssayError) -> str:
    """The error's sentences, to which the method and the account are added."""
    text = str(error)
    return text.strip().rstrip(".")
