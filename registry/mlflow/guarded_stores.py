"""MLflow's stores as its server uses them: what Assay recorded is changed by the service account alone.

Every method that does not merely read has a rule in `TRACKING` or `MODELS`. One without a rule is refused: a new version of MLflow
opens nothing by itself. Rules look at what a call would change, not at the address that it came by.
"""

import inspect
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from typing import Any

from registry.mlflow.accounts import SERVICE
from registry.mlflow.acting import acting
from registry.mlflow.connection import EXPERIMENT

_PREFIX = "assay."
_READS = (
    "batch_get_",
    "calculate_",
    "compute_",
    "filter_",
    "find_",
    "get_",
    "list_",
    "query_",
    "search_",
    "supports_",
)
_PLACEHOLDERS = frozenset({"prompt-template", "dummy-source"})
"""What MLflow calls the source of a prompt, which has no files."""
_INSIDE: ContextVar[bool] = ContextVar("inside", default=False)
"""A store's methods call each other; the outermost call is the one that was asked for."""


@dataclass(frozen=True)
class Call:
    """A call of a store's method by an account: its arguments by name."""

    store: Any
    method: str
    given: Mapping[str, Any]
    by: str

    @property
    def is_by_service(self) -> bool:
        """Whether worker or controller asked for it."""
        return self.by == SERVICE

    def refuse(self, fact: str) -> None:
        """MLflow answers 403 with the sentence."""
        from mlflow.exceptions import MlflowException
        from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

        raise MlflowException(
            f"{fact} ({self.method} by {self.by or 'nobody'}).",
            error_code=PERMISSION_DENIED,
        )


Rule = Callable[[Call], None]


def guarded(store: type, rules: Mapping[str, Rule]) -> type:
    """The store's class, with each method that changes something behind its rule."""
    behind = {
        name: _behind(getattr(store, name), rules.get(name, refused))
        for name in dir(store)
        if _changes(store, name)
    }
    return type(f"Guarded{store.__name__}", (store,), behind)


def _changes(store: type, name: str) -> bool:
    is_read = name.startswith(_READS) and name not in _READS_IN_NAME_ALONE
    return (
        not name.startswith("_")
        and not is_read
        and inspect.isfunction(inspect.getattr_static(store, name))
    )


_READS_IN_NAME_ALONE = frozenset({"get_or_create_user_queue"})


def _behind(plain: Callable[..., Any], rule: Rule) -> Callable[..., Any]:
    @wraps(plain)
    def method(*arguments: Any, **named: Any) -> Any:
        by = acting()
        if by is None or _INSIDE.get():
            return plain(*arguments, **named)
        given = dict(inspect.signature(plain).bind(*arguments, **named).arguments)
        rule(Call(given.pop("self", None), plain.__name__, given, by))
        token = _INSIDE.set(True)
        try:
            return plain(*arguments, **named)
        finally:
            _INSIDE.reset(token)

    return method


# What a call may be.


def refused(call: Call) -> None:
    """For methods that nobody needs."""
    call.refuse("This server does not offer that")


def free(call: Call) -> None:
    """What MLflow's own permissions decide: reviews, aliases, webhooks."""
    if not call.by:
        call.refuse("Nobody is logged in")


def all_of(*rules: Rule) -> Rule:
    """Every rule must let it pass."""

    def rule(call: Call) -> None:
        for each in rules:
            each(call)

    return rule


def tags(call: Call) -> None:
    """Tags of Assay's own are evidence: who asked for a run, what its verdict was."""
    if call.is_by_service:
        return
    free(call)
    for key in _keys(call.given):
        if _plain(key).startswith(_PREFIX):
            call.refuse(
                f"The tag {key[:60]!r} is written by the account {SERVICE!r} alone"
            )


def _keys(given: Mapping[str, Any]) -> Iterable[str]:
    found = given.get("tags")
    yield from (
        str(each if isinstance(found, Mapping) else each.key) for each in found or ()
    )
    if given.get("tag") is not None:
        yield str(given["tag"].key)
    if given.get("key") is not None:
        yield str(given["key"])
    info = given.get("trace_info")
    if info is not None:
        yield from map(str, {**(info.tags or {}), **(info.trace_metadata or {})})


def own_experiment(call: Call) -> None:
    """What lies in Assay's experiment is changed by the service account alone. What a call names nothing of is refused."""
    if call.is_by_service:
        return
    free(call)
    places = tuple(_experiments(call))
    if not places or any(is_governed(call.store, place) for place in places):
        call.refuse(
            f"The experiment {EXPERIMENT!r} is written by the account {SERVICE!r} alone. Make an experiment of your own"
        )


def _experiments(call: Call) -> Iterable[str]:
    """Every experiment that the call touches, by whatever it names it."""
    given, store = call.given, call.store
    for name in ("experiment_id", "location"):
        if given.get(name):
            yield str(given[name])
    yield from map(str, given.get("experiment_ids") or ())
    for name in ("run_id", "source_run_id"):
        if given.get(name):
            yield str(store.get_run(given[name]).info.experiment_id)
    if given.get("model_id"):
        yield str(store.get_logged_model(given["model_id"]).experiment_id)
    for each in (
        *(given.get("models") or ()),
        *(given.get("metrics") or ()),
        given.get("metric"),
    ):
        if getattr(each, "model_id", None):
            yield str(store.get_logged_model(each.model_id).experiment_id)
    for trace in _traces(given):
        yield str(store.get_trace_info(trace).experiment_id)
    yield from _of_new_traces(call)


def _traces(given: Mapping[str, Any]) -> Iterable[str]:
    for name in ("trace_id", "request_id"):
        if given.get(name):
            yield str(given[name])
    yield from map(str, given.get("trace_ids") or ())


def _of_new_traces(call: Call) -> Iterable[str]:
    """Where they are to lie, and where one of the same id lies already."""
    from mlflow.exceptions import MlflowException

    info = call.given.get("trace_info")
    if info is not None:
        yield str(info.experiment_id)
    ids = {
        str(each.trace_id)
        for each in (
            *(call.given.get("spans") or ()),
            *(() if info is None else (info,)),
        )
    }
    for each in ids:
        with suppress(MlflowException):  # most are new
            yield str(call.store.get_trace_info(each).experiment_id)


def is_governed(store: Any, experiment_id: str) -> bool:
    """Whether it is Assay's experiment, deleted or not."""
    return _is_reserved(str(store.get_experiment(experiment_id).name))


def _is_reserved(name: str) -> bool:
    return _plain(name) == EXPERIMENT


def _plain(text: str) -> str:
    """As people read it: letters of another width or case are no other name."""
    shown = "".join(
        letter
        for letter in unicodedata.normalize("NFKC", text)
        if unicodedata.category(letter) != "Cf"
    )
    return shown.strip().casefold()


def no_location(call: Call) -> None:
    """Files lie where this server puts them. The service account needs no other place either."""
    if call.given.get("artifact_location"):
        call.refuse(
            "Artifacts lie where this server puts them: leave artifact_location out"
        )


def other_name(call: Call) -> None:
    """Nobody makes a second experiment of Assay's name."""
    name = str(call.given.get("new_name") or call.given.get("name") or "")
    if not call.is_by_service and _is_reserved(name):
        call.refuse(f"The name {name[:60]!r} is that of Assay's own experiment")


def batch(call: Call) -> None:
    """Tags by themselves may be written as `set_tag` writes them; numbers and parameters belong to whoever ran it."""
    tags(call)
    if call.given.get("metrics") or call.given.get("params"):
        own_experiment(call)


def datasets(call: Call) -> None:
    """Evaluation data: Assay keeps none there."""
    tags(call)
    if call.given.get("experiment_ids"):
        own_experiment(call)


# Registered models.


def own_model(call: Call) -> None:
    """A model of which Assay registered a version is changed by the service account alone, but for tags and aliases."""
    if call.is_by_service:
        return
    free(call)
    name = str(call.given["name"])
    if holds_registered_version(call.store, name):
        call.refuse(
            f"Assay registered versions of {name[:100]!r}: they are changed by the account {SERVICE!r} alone"
        )


def holds_registered_version(store: Any, name: str) -> bool:
    """Whether a version of that name has a tag of Assay's own, which nobody else can write."""
    from mlflow.store.model_registry.dbmodels.models import SqlModelVersionTag

    own = SqlModelVersionTag.key.startswith(_PREFIX, autoescape=True)
    with store.ManagedSessionMaker() as session:
        return (
            session.query(SqlModelVersionTag)
            .filter(SqlModelVersionTag.name == name, own)
            .first()
            is not None
        )


def new_version(call: Call) -> None:
    """A version's files are those of a run or of a logged model, and not Assay's."""
    from mlflow.server.handlers import _get_tracking_store

    all_of(own_model, tags)(call)
    if call.is_by_service or str(call.given["source"]) in _PLACEHOLDERS:
        return
    of = {
        name: call.given[name]
        for name in ("run_id", "model_id")
        if call.given.get(name)
    }
    if not of:
        call.refuse(
            "A version's source is a run or a logged model: name run_id or model_id"
        )
    own_experiment(Call(_get_tracking_store(), call.method, of, call.by))


def own_prompt(call: Call) -> None:
    """A prompt is linked to a run or a logged model of one's own."""
    from mlflow.server.handlers import _get_tracking_store

    of = {
        name: call.given[name]
        for name in ("run_id", "model_id")
        if call.given.get(name)
    }
    own_experiment(Call(_get_tracking_store(), call.method, of, call.by))


def copied(call: Call) -> None:
    """A copy takes tags with it."""
    if not call.is_by_service:
        source, into = call.given["src_mv"], call.given["dst_name"]
        for name in (source.name, into):
            own_model(Call(call.store, call.method, {"name": name}, call.by))


def _each(rule: Rule, *names: str) -> dict[str, Rule]:
    return dict.fromkeys(names, rule)


TRACKING: Mapping[str, Rule] = {
    "create_experiment": all_of(tags, other_name, no_location),
    **_each(own_experiment, "delete_experiment", "restore_experiment"),
    "rename_experiment": all_of(own_experiment, other_name),
    **_each(
        tags, "set_experiment_tag", "delete_experiment_tag", "set_tag", "delete_tag"
    ),
    **_each(tags, "set_logged_model_tags", "delete_logged_model_tag"),
    **_each(all_of(own_experiment, tags), "create_run", "create_logged_model"),
    **_each(
        own_experiment,
        "update_run_info",
        "delete_run",
        "restore_run",
        "log_metric",
        "log_param",
        "record_logged_model",
    ),
    **_each(own_experiment, "log_inputs", "log_outputs"),
    "log_batch": batch,
    **_each(
        own_experiment,
        "log_logged_model_params",
        "finalize_logged_model",
        "delete_logged_model",
        "set_model_versions_tags",
    ),
    **_each(
        own_experiment,
        "register_scorer",
        "delete_scorer",
        "upsert_online_scoring_config",
    ),
    **_each(
        all_of(own_experiment, tags),
        "start_trace",
        "deprecated_start_trace_v2",
        "deprecated_end_trace_v2",
    ),
    **_each(all_of(own_experiment, tags), "set_trace_tag", "delete_trace_tag"),
    **_each(
        own_experiment,
        "delete_traces",
        "log_spans",
        "link_traces_to_run",
        "unlink_traces_from_run",
        "link_prompts_to_trace",
    ),
    **_each(
        datasets,
        "create_dataset",
        "delete_dataset",
        "upsert_dataset_records",
        "delete_dataset_records",
    ),
    **_each(
        datasets,
        "set_dataset_tags",
        "delete_dataset_tag",
        "add_dataset_to_experiments",
        "remove_dataset_from_experiments",
    ),
    # People's reviews, of Assay's runs too.
    **_each(
        free,
        "create_assessment",
        "update_assessment",
        "delete_assessment",
        "create_issue",
        "update_issue",
    ),
    **_each(free, "create_label_schema", "update_label_schema", "delete_label_schema"),
    **_each(
        free,
        "create_review_queue",
        "get_or_create_user_queue",
        "update_review_queue",
        "delete_review_queue",
    ),
    **_each(
        free,
        "add_items_to_review_queue",
        "remove_items_from_review_queue",
        "set_review_queue_item_status",
    ),
}
MODELS: Mapping[str, Rule] = {
    **_each(
        tags,
        "create_registered_model",
        "set_registered_model_tag",
        "delete_registered_model_tag",
    ),
    **_each(tags, "set_model_version_tag", "delete_model_version_tag"),
    **_each(
        own_model,
        "update_registered_model",
        "rename_registered_model",
        "delete_registered_model",
    ),
    "create_model_version": new_version,
    **_each(
        own_model,
        "update_model_version",
        "transition_model_version_stage",
        "delete_model_version",
    ),
    "copy_model_version": copied,
    **_each(free, "set_registered_model_alias", "delete_registered_model_alias"),
    **_each(
        all_of(own_model, tags),
        "create_prompt",
        "create_prompt_version",
        "delete_prompt",
        "delete_prompt_version",
    ),
    **_each(
        tags,
        "set_prompt_tag",
        "delete_prompt_tag",
        "set_prompt_version_tag",
        "delete_prompt_version_tag",
    ),
    **_each(free, "set_prompt_alias", "delete_prompt_alias"),
    **_each(own_prompt, "link_prompt_version_to_run", "link_prompt_version_to_model"),
    "link_prompts_to_trace": refused,
    **_each(free, "create_webhook", "update_webhook", "delete_webhook", "test_webhook"),
}
