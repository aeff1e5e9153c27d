"""MLflow's stores as its server uses them: the service account alone changes Assay's records.

Every method that does not merely read has a rule in `TRACKING` or `MODELS`. One without a rule is
refused: a new version of MLflow opens nothing by itself. Rules look at what a call would change,
not at the address that it came by.
"""

import inspect
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from typing import Any

from core.errors import RegistryError
from registry.mlflow.accounts import SERVICE
from registry.mlflow.acting import NOBODY, current_account
from registry.mlflow.connection import EXPERIMENT, REVIEWS

_PREFIX = "assay."
_OF_MLFLOW = "mlflow."
"""What a tag begins with that MLflow obeys or shows as a fact: who made a run, what is hidden."""
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
# A method that creates, though its name begins like that of one that reads.
_READS_IN_NAME_ALONE = frozenset({"get_or_create_user_queue"})
_PLACEHOLDERS = frozenset({"prompt-template", "dummy-source"})
"""What MLflow calls the source of a prompt, which has no files."""
_INSIDE: ContextVar[bool] = ContextVar("inside", default=False)
"""A store's methods call each other; the outermost call is the one that was requested."""


APPROVE = "approve"
"""The tag by which people approve a version: `registry/mlflow/approving.py`."""


def is_inside() -> bool:
    """Whether a method of a store makes the call, and no request."""
    return _INSIDE.get()


@contextmanager
def inside() -> Iterator[None]:
    """What the server does on its own account, after it has checked a request."""
    token = _INSIDE.set(True)
    try:
        yield
    finally:
        _INSIDE.reset(token)


class Reach:
    """What the rules are for: with `assay up` the whole server is Assay's.

    On a team's own server it is less: `registry/mlflow/team`.
    """

    service = SERVICE
    """The account of worker and controller."""
    trusts_start = True
    """Whether a server that prepares itself may change anything."""

    def concerns(self, call: "Call") -> bool:
        """Whether any rule is for the call; all others go through unseen."""
        return True

    def holds_model(self, store: Any, name: str) -> bool:
        """Whether the model of that name is Assay's."""
        return holds_registered_version(store, name)

    def takes_approvals(self, name: str) -> bool:
        """Whether the tag `approve` of that model's versions is an approval."""
        return True

    def explain_model(self, name: str) -> str:
        """Why the model is not everybody's to change."""
        return f"Assay registered versions of {name[:100]!r}"

    def check_records(self, call: "Call") -> None:
        """Refuse a change of runs, logged models or traces that are Assay's: `MlflowException`."""
        experiments = tuple(_experiments(call))
        is_ours = any(is_governed(call.store, experiment) for experiment in experiments)
        # A call that names no experiment could be about Assay's, so that it is refused, too.
        if not experiments or is_ours:
            call.refuse(
                f"What is in {EXPERIMENT!r} and {REVIEWS!r} is written by the account "
                f"{self.service!r} alone. Make an experiment of your own"
            )


WHOLE_SERVER = Reach()


@dataclass(frozen=True)
class Call:
    """A call of a store's method by an account: its arguments by name."""

    store: Any
    method: str
    arguments: Mapping[str, Any]
    by: str
    reach: Reach = WHOLE_SERVER

    @property
    def is_by_service(self) -> bool:
        """Whether worker or controller made the call."""
        return self.by == self.reach.service

    def refuse(self, fact: str) -> None:
        """Have MLflow answer 403 with the sentence: `MlflowException`."""
        from mlflow.exceptions import MlflowException
        from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

        account = self.by or "nobody"
        raise MlflowException(
            f"{fact} ({self.method} by {account}).",
            error_code=PERMISSION_DENIED,
        )


Rule = Callable[[Call], None]


def guard_store(
    store: type, rules: Mapping[str, Rule], reach: Reach = WHOLE_SERVER
) -> type:
    """Make the store's class with each method that changes something behind its rule."""
    guarded_methods = {}
    for name in dir(store):
        if not _may_change(store, name):
            continue
        plain = getattr(store, name)
        # Without a rule it is refused.
        rule = rules.get(name, refuse_always)
        guarded_methods[name] = _guard_method(plain, rule, reach)
    return type(f"Guarded{store.__name__}", (store,), guarded_methods)


def check_classified(store: type, rules: Mapping[str, Rule]) -> None:
    """`RegistryError` where a method that changes something has no rule.

    A server that starts all the same would offer a page whose button nobody thought about.
    """
    names = [
        name for name in dir(store) if _may_change(store, name) and name not in rules
    ]
    if names:
        raise RegistryError(
            f"MLflow's {store.__name__} can do what Assay has no rule for: {', '.join(names)}. "
            "Install the MLflow that requirements.lock names."
        )


def _may_change(store: type, name: str) -> bool:
    if name.startswith("_"):
        return False
    if name.startswith(_READS) and name not in _READS_IN_NAME_ALONE:
        return False
    # Statically: a property must not be evaluated to see whether it is a method.
    attribute = inspect.getattr_static(store, name)
    return inspect.isfunction(attribute)


def _guard_method(
    plain: Callable[..., Any], rule: Rule, reach: Reach
) -> Callable[..., Any]:
    signature = inspect.signature(plain)

    @wraps(plain)
    def method(*positional: Any, **named: Any) -> Any:
        account = current_account()
        is_start = account is None and reach.trusts_start
        # What the server does by itself, or within a call that was checked, needs no rule.
        if is_start or _INSIDE.get():
            return plain(*positional, **named)
        arguments = dict(signature.bind(*positional, **named).arguments)
        store = arguments.pop("self", None)
        call = Call(store, plain.__name__, arguments, account or NOBODY, reach)
        if not reach.concerns(call):
            return plain(*positional, **named)
        rule(call)
        # The calls that the method makes itself were not requested by anybody.
        token = _INSIDE.set(True)
        try:
            return plain(*positional, **named)
        finally:
            _INSIDE.reset(token)

    return method


# General rules.


def refuse_always(call: Call) -> None:
    """For methods that nobody needs."""
    call.refuse("This server does not offer that")


def require_login(call: Call) -> None:
    """For what MLflow's own permissions decide: reviews, aliases."""
    if not call.by:
        call.refuse("Nobody is logged in")


def require_service(call: Call) -> None:
    """For what the controller alone does: a webhook has this server ask an address."""
    if not call.is_by_service:
        service = call.reach.service
        call.refuse(f"Webhooks are kept by the account {service!r} alone")


def all_of(*rules: Rule) -> Rule:
    """Combine rules: every one must let the call pass."""

    def check_all(call: Call) -> None:
        for rule in rules:
            rule(call)

    return check_all


# Tags.


def check_tags(call: Call) -> None:
    """Tags of Assay's own are evidence: who requested a run, what its verdict was."""
    if call.is_by_service:
        return
    require_login(call)
    # Deleting a tag comes here, too: its key is an argument.
    for key in tag_keys(call.arguments):
        if normalize(key).startswith(_PREFIX):
            service = call.reach.service
            call.refuse(
                f"The tag {key[:60]!r} is written by the account {service!r} alone"
            )


def check_record_tags(call: Call) -> None:
    """For tags of runs and logged models.

    MLflow's page says by its own tags who made a run, of which code, and what came of it.
    """
    check_tags(call)
    if not call.is_by_service and has_tag_of_mlflow(call):
        call.reach.check_records(call)


def check_model_tags(call: Call) -> None:
    """For tags of models and versions.

    By one of its own tags MLflow takes a model for a prompt, which it then shows nobody as a model.
    """
    check_tags(call)
    if call.is_by_service or not has_tag_of_mlflow(call):
        return
    name = str(call.arguments["name"])
    if call.reach.holds_model(call.store, name):
        reason = call.reach.explain_model(name)
        call.refuse(
            f"{reason}: tags of MLflow's own are written by {call.reach.service!r} alone"
        )


def has_tag_of_mlflow(call: Call) -> bool:
    """Whether the call would write or delete a tag that means something to MLflow itself."""
    keys = map(normalize, tag_keys(call.arguments))
    return any(key.startswith(_OF_MLFLOW) for key in keys)


def tag_keys(arguments: Mapping[str, Any]) -> Iterator[str]:
    """Every tag that the call would write, in whichever form its method takes it."""
    # As entities with a key, as a mapping, or one key alone.
    tags = arguments.get("tags")
    for tag in tags or ():
        yield str(tag if isinstance(tags, Mapping) else tag.key)
    if arguments.get("tag") is not None:
        yield str(arguments["tag"].key)
    if arguments.get("key") is not None:
        yield str(arguments["key"])
    # A trace brings its tags, and metadata that is shown as tags, within its description.
    info = arguments.get("trace_info")
    if info is not None:
        keys = {**(info.tags or {}), **(info.trace_metadata or {})}
        yield from map(str, keys)


# Experiments and runs.


def check_experiment(call: Call) -> None:
    """What is in Assay's experiment is changed by the service account alone."""
    if call.is_by_service:
        return
    require_login(call)
    call.reach.check_records(call)


def _experiments(call: Call) -> Iterator[str]:
    """Id of every experiment that the call would change, however it names it."""
    arguments = call.arguments
    for name in ("experiment_id", "location"):
        if arguments.get(name):
            yield str(arguments[name])
    yield from map(str, arguments.get("experiment_ids") or ())
    yield from _experiments_of_runs(call)
    yield from _experiments_of_logged_models(call)
    for trace_id in _trace_ids(arguments):
        yield str(call.store.get_trace_info(trace_id).experiment_id)
    yield from _experiments_of_new_traces(call)


def _experiments_of_runs(call: Call) -> Iterator[str]:
    named = run_ids(call.arguments)
    for run_id in named:
        run = call.store.get_run(run_id)
        # By what the store says: the call could name a friendlier experiment.
        experiment_id = run.info.experiment_id
        yield str(experiment_id)


def run_ids(arguments: Mapping[str, Any]) -> Iterator[str]:
    """Id of every run that the call names."""
    for name in ("run_id", "source_run_id"):
        if arguments.get(name):
            yield str(arguments[name])


def _experiments_of_logged_models(call: Call) -> Iterator[str]:
    named = logged_model_ids(call.arguments)
    for model_id in named:
        model = call.store.get_logged_model(model_id)
        experiment_id = model.experiment_id
        yield str(experiment_id)


def logged_model_ids(arguments: Mapping[str, Any]) -> Iterator[str]:
    """Id of every logged model that the call names."""
    model_ids = [arguments.get("model_id")]
    # A metric of a run may be one of a logged model, which is in another experiment.
    holders = (
        *(arguments.get("models") or ()),
        *(arguments.get("metrics") or ()),
        arguments.get("metric"),
    )
    model_ids += [getattr(holder, "model_id", None) for holder in holders]
    for model_id in model_ids:
        if model_id:
            yield str(model_id)


def _trace_ids(arguments: Mapping[str, Any]) -> Iterator[str]:
    for name in ("trace_id", "request_id"):
        if arguments.get(name):
            yield str(arguments[name])
    yield from map(str, arguments.get("trace_ids") or ())


def _experiments_of_new_traces(call: Call) -> Iterator[str]:
    """Where new traces would be, and where there is already one of the same id."""
    from mlflow.exceptions import MlflowException

    described = []
    info = call.arguments.get("trace_info")
    if info is not None:
        described.append(info)
        yield str(info.experiment_id)
    spans = call.arguments.get("spans") or ()
    trace_ids = {str(item.trace_id) for item in (*spans, *described)}
    for trace_id in trace_ids:
        # Most are new: MLflow knows nothing of them.
        with suppress(MlflowException):
            yield str(call.store.get_trace_info(trace_id).experiment_id)


def is_governed(store: Any, experiment_id: str) -> bool:
    """Whether it is one of Assay's two experiments, deleted or not."""
    # By its present name: renaming the experiment is refused as well.
    experiment = store.get_experiment(experiment_id)
    return _is_reserved(str(experiment.name))


def _is_reserved(name: str) -> bool:
    return normalize(name) in {EXPERIMENT, REVIEWS}


def normalize(text: str) -> str:
    """The text as people read it: letters of another width or case make no other name."""
    letters = [
        letter
        for letter in unicodedata.normalize("NFKC", text)
        # Invisible format characters, such as a zero-width space.
        if unicodedata.category(letter) != "Cf"
    ]
    return "".join(letters).strip().casefold()


def check_no_location(call: Call) -> None:
    """Files are where this server puts them. The service account needs no other place either."""
    if call.arguments.get("artifact_location"):
        call.refuse(
            "Artifacts are where this server puts them: leave artifact_location out"
        )


def check_experiment_name(call: Call) -> None:
    """Nobody makes a second experiment of Assay's name."""
    arguments = call.arguments
    # `rename_experiment` calls it `new_name`.
    name = str(arguments.get("new_name") or arguments.get("name") or "")
    if not call.is_by_service and _is_reserved(name):
        call.refuse(f"The name {name[:60]!r} is that of Assay's own experiment")


def check_batch(call: Call) -> None:
    """Tags alone may be written as by `set_tag`; numbers and parameters are the runner's."""
    check_record_tags(call)
    # People may tag Assay's runs, with tags of their own.
    if call.arguments.get("metrics") or call.arguments.get("params"):
        check_experiment(call)


def check_dataset(call: Call) -> None:
    """For evaluation data, of which Assay keeps none there."""
    check_tags(call)
    if call.arguments.get("experiment_ids"):
        check_experiment(call)


# Registered models.


def check_model(call: Call) -> None:
    """A model with a version of Assay's is changed by the service account alone.

    Tags and aliases have rules of their own.
    """
    if call.is_by_service:
        return
    require_login(call)
    name = str(call.arguments["name"])
    if call.reach.holds_model(call.store, name):
        reason = call.reach.explain_model(name)
        call.refuse(
            f"{reason}: they are changed by the account {call.reach.service!r} alone"
        )


def holds_registered_version(store: Any, name: str) -> bool:
    """Whether a version of that name has a tag of Assay's own, which nobody else can write."""
    from mlflow.store.model_registry.dbmodels.models import SqlModelVersionTag

    # From the table: going through all versions by the store's methods would be slow.
    is_own_tag = SqlModelVersionTag.key.startswith(_PREFIX, autoescape=True)
    with store.ManagedSessionMaker() as session:
        tags = session.query(SqlModelVersionTag)
        own_tags = tags.filter(SqlModelVersionTag.name == name, is_own_tag)
        return own_tags.first() is not None


def check_new_version(call: Call) -> None:
    """A version's files are those of a run or of a logged model, and not Assay's."""
    check_model(call)
    check_tags(call)
    if APPROVE in map(normalize, tag_keys(call.arguments)):
        call.refuse(f"The tag {APPROVE!r} is set on the page of a registered version")
    # A prompt is a registered model without files.
    if call.is_by_service or str(call.arguments["source"]) in _PLACEHOLDERS:
        return
    origin = _origin_of(call)
    if not origin:
        call.refuse(
            "A version's source is a run or a logged model: name run_id or model_id"
        )
    _check_origin(call, origin)


def check_prompt_link(call: Call) -> None:
    """A prompt is linked to a run or a logged model of one's own."""
    _check_origin(call, _origin_of(call))


def _origin_of(call: Call) -> dict[str, Any]:
    """The run or the logged model that the call names."""
    arguments = call.arguments
    return {
        name: arguments[name] for name in ("run_id", "model_id") if arguments.get(name)
    }


def _check_origin(call: Call, origin: dict[str, Any]) -> None:
    from mlflow.server.handlers import _get_tracking_store

    # The store of models knows no runs: that of runs is asked for their experiment.
    tracking_call = Call(_get_tracking_store(), call.method, origin, call.by)
    check_experiment(tracking_call)


def check_copy(call: Call) -> None:
    """A copy takes tags with it, so that neither of the two models may be Assay's."""
    if call.is_by_service:
        return
    source, destination = call.arguments["src_mv"], call.arguments["dst_name"]
    for name in (source.name, destination):
        model_call = Call(call.store, call.method, {"name": name}, call.by)
        check_model(model_call)


def _for_methods(rule: Rule, *names: str) -> dict[str, Rule]:
    return dict.fromkeys(names, rule)


TRACKING: Mapping[str, Rule] = {
    # Experiments.
    "create_experiment": all_of(check_tags, check_experiment_name, check_no_location),
    **_for_methods(check_experiment, "delete_experiment", "restore_experiment"),
    "rename_experiment": all_of(check_experiment, check_experiment_name),
    **_for_methods(check_tags, "set_experiment_tag", "delete_experiment_tag"),
    **_for_methods(
        check_record_tags,
        "set_tag",
        "delete_tag",
        "set_logged_model_tags",
        "delete_logged_model_tag",
    ),
    **_for_methods(
        all_of(check_experiment, check_tags), "create_run", "create_logged_model"
    ),
    **_for_methods(
        check_experiment,
        "update_run_info",
        "delete_run",
        "restore_run",
        "log_metric",
        "log_param",
        "record_logged_model",
    ),
    **_for_methods(check_experiment, "log_inputs", "log_outputs"),
    "log_batch": check_batch,
    **_for_methods(
        check_experiment,
        "log_logged_model_params",
        "finalize_logged_model",
        "delete_logged_model",
        "set_model_versions_tags",
    ),
    **_for_methods(
        check_experiment,
        "register_scorer",
        "delete_scorer",
        "upsert_online_scoring_config",
    ),
    # Traces.
    **_for_methods(
        all_of(check_experiment, check_tags),
        "start_trace",
        "deprecated_start_trace_v2",
        "deprecated_end_trace_v2",
    ),
    **_for_methods(
        all_of(check_experiment, check_tags), "set_trace_tag", "delete_trace_tag"
    ),
    **_for_methods(
        check_experiment,
        "delete_traces",
        "log_spans",
        # What clients of MLflow's send spans to; it calls the one above, which asks again.
        "log_spans_async",
        "link_traces_to_run",
        "unlink_traces_from_run",
        "link_prompts_to_trace",
    ),
    # Evaluation data.
    **_for_methods(
        check_dataset,
        "create_dataset",
        "delete_dataset",
        "upsert_dataset_records",
        "delete_dataset_records",
    ),
    **_for_methods(
        check_dataset,
        "set_dataset_tags",
        "delete_dataset_tag",
        "add_dataset_to_experiments",
        "remove_dataset_from_experiments",
    ),
    # People's reviews, of Assay's runs too.
    **_for_methods(
        require_login,
        "create_assessment",
        "update_assessment",
        "delete_assessment",
        "create_issue",
        "update_issue",
    ),
    **_for_methods(
        require_login,
        "create_label_schema",
        "update_label_schema",
        "delete_label_schema",
    ),
    **_for_methods(
        require_login,
        "create_review_queue",
        "get_or_create_user_queue",
        "update_review_queue",
        "delete_review_queue",
    ),
    **_for_methods(
        require_login,
        "add_items_to_review_queue",
        "remove_items_from_review_queue",
        "set_review_queue_item_status",
    ),
}
MODELS: Mapping[str, Rule] = {
    **_for_methods(
        check_model_tags,
        "create_registered_model",
        "set_registered_model_tag",
        "delete_registered_model_tag",
        "set_model_version_tag",
        "delete_model_version_tag",
    ),
    **_for_methods(
        check_model,
        "update_registered_model",
        "rename_registered_model",
        "delete_registered_model",
    ),
    "create_model_version": check_new_version,
    **_for_methods(
        check_model,
        "update_model_version",
        "transition_model_version_stage",
        "delete_model_version",
    ),
    "copy_model_version": check_copy,
    # Aliases have rules of their own: `registry/mlflow/admission.py`.
    # Prompts, which MLflow keeps as registered models.
    **_for_methods(
        all_of(check_model, check_tags),
        "create_prompt",
        "create_prompt_version",
        "delete_prompt",
        "delete_prompt_version",
    ),
    **_for_methods(
        check_model_tags,
        "set_prompt_tag",
        "delete_prompt_tag",
        "set_prompt_version_tag",
        "delete_prompt_version_tag",
    ),
    **_for_methods(check_model, "set_prompt_alias", "delete_prompt_alias"),
    **_for_methods(
        check_prompt_link, "link_prompt_version_to_run", "link_prompt_version_to_model"
    ),
    "link_prompts_to_trace": refuse_always,
    **_for_methods(
        require_service,
        "create_webhook",
        "update_webhook",
        "delete_webhook",
        "test_webhook",
    ),
}
