"""Reviews on MLflow's server: who wrote a rating is who was logged in, whatever the call says.

MLflow takes the source of an assessment from the caller. In the experiment of reviews it is the
account of the request here; nobody changes or takes back what somebody else wrote; queues and
questions are the service account's.
"""

from collections.abc import Callable, Mapping
from typing import Any

from registry.mlflow.connection import REVIEWS
from registry.mlflow.guarded_stores import Call, Rule, normalize, require_login


def sign_assessment(call: Call) -> None:
    """Make the account of the request the author of what it writes about a reviewed answer."""
    require_login(call)
    if not is_of_review(call):
        return
    from mlflow.entities import AssessmentSource

    assessment = call.arguments.get("assessment")
    if assessment is None:
        _check_own(call, str(call.arguments["assessment_id"]))
        return
    # What overrides another assessment makes that one invalid.
    if assessment.overrides:
        _check_own(call, str(assessment.overrides))
    assessment.source = AssessmentSource("HUMAN", call.by)


def _check_own(call: Call, assessment_id: str) -> None:
    trace_id = _trace_id(call)
    # As it is stored, since the call could name any author.
    written = call.store.get_assessment(trace_id, assessment_id)
    if written.source.source_id != call.by:
        call.refuse("Somebody else wrote that rating, who alone may change it")


def keep_reviews(call: Call) -> None:
    """Queues and questions of reviews are kept by the service account alone."""
    require_login(call)
    if not call.is_by_service and is_of_review(call):
        call.refuse(
            f"Reviews in {REVIEWS!r} are kept by the account {call.reach.service!r} alone"
        )


def check_own_queue(call: Call) -> None:
    """Only whose queue it is says that an item is done."""
    require_login(call)
    if call.is_by_service or not is_of_review(call):
        return
    # MLflow would take an item as done for all, whoever said so.
    queue = call.store.get_review_queue(call.arguments["queue_id"])
    if call.by not in queue.users:
        call.refuse("That is somebody else's queue")


def is_of_review(call: Call) -> bool:
    """Whether the call is about the experiment of reviews, however it names it."""
    # By its present name: nobody but the service account renames it.
    experiment = call.store.get_experiment(_experiment_of(call))
    return normalize(str(experiment.name)) == REVIEWS


def _experiment_of(call: Call) -> str:
    arguments, store = call.arguments, call.store
    if arguments.get("experiment_id"):
        return str(arguments["experiment_id"])
    if arguments.get("queue_id"):
        return str(store.get_review_queue(arguments["queue_id"]).experiment_id)
    if arguments.get("schema_id"):
        return str(store.get_label_schema(arguments["schema_id"]).experiment_id)
    return str(store.get_trace_info(_trace_id(call)).experiment_id)


def _trace_id(call: Call) -> str:
    assessment = call.arguments.get("assessment")
    if assessment is not None:
        return str(assessment.trace_id)
    return str(call.arguments["trace_id"])


def _for_methods(rule: Callable[[Call], None], *names: str) -> dict[str, Any]:
    return dict.fromkeys(names, rule)


REVIEW_RULES: Mapping[str, Rule] = {
    **_for_methods(
        sign_assessment, "create_assessment", "update_assessment", "delete_assessment"
    ),
    **_for_methods(
        keep_reviews,
        "create_label_schema",
        "update_label_schema",
        "delete_label_schema",
        "create_review_queue",
        "update_review_queue",
        "delete_review_queue",
        "add_items_to_review_queue",
        "remove_items_from_review_queue",
    ),
    "set_review_queue_item_status": check_own_queue,
}
"""In place of the rules that these methods have elsewhere."""
