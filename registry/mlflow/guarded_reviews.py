"""Reviews on MLflow's server: who wrote a rating is who was logged in, whatever the call says.

MLflow takes the source and the time of an assessment from the caller. In the experiment of reviews
they are the account and the moment of the request here. A rating is corrected by another one that
overrides it, so that each one stays on record; queues and questions are the service account's.
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

    assessment = call.arguments["assessment"]
    # Nobody speaks in the place of somebody else.
    if assessment.overrides:
        _check_own(call, str(assessment.overrides))
    assessment.source = AssessmentSource("HUMAN", call.by)
    # The store then takes its own clock: a caller's could be before the end of the review.
    assessment.create_time_ms = None
    assessment.last_update_time_ms = None


def keep_ratings(call: Call) -> None:
    """Refuse to change a rating in its place, or to delete it.

    Done after the end of the review, it would take away what was rated before.
    """
    require_login(call)
    if not is_of_review(call):
        return
    _check_own(call, str(call.arguments["assessment_id"]))
    call.refuse(
        "A rating stays on record: correct it on the page of the review, by another one"
    )


def _check_own(call: Call, assessment_id: str) -> None:
    trace_id = _trace_id(call)
    # As it is stored, since the call could name any author.
    written = call.store.get_assessment(
        trace_id,
        assessment_id,
    )
    author = written.source.source_id
    if author != call.by:
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
    queue_id = call.arguments["queue_id"]
    queue = call.store.get_review_queue(queue_id)
    is_own = call.by in queue.users
    if not is_own:
        call.refuse("That is somebody else's queue")


def is_of_review(call: Call) -> bool:
    """Whether the call is about the experiment of reviews, however it names it."""
    # By its present name: nobody but the service account renames it.
    experiment_id = _experiment_of(call)
    experiment = call.store.get_experiment(experiment_id)
    # As MLflow would compare it: another spelling must not slip past.
    name = normalize(str(experiment.name))
    return name == REVIEWS


def _experiment_of(call: Call) -> str:
    store = call.store
    named = call.arguments.get("experiment_id")
    if named:
        return str(named)
    # Each kind of call names another thing; the store knows where that belongs.
    queue_id = call.arguments.get("queue_id")
    if queue_id:
        queue = store.get_review_queue(queue_id)
        return str(queue.experiment_id)
    schema_id = call.arguments.get("schema_id")
    if schema_id:
        schema = store.get_label_schema(schema_id)
        return str(schema.experiment_id)
    trace_id = _trace_id(call)
    trace = store.get_trace_info(trace_id)
    return str(trace.experiment_id)


def _trace_id(call: Call) -> str:
    arguments = call.arguments
    assessment = arguments.get("assessment")
    # A new assessment carries its trace; a change names it beside the id.
    if assessment is not None:
        return str(assessment.trace_id)
    trace_id = arguments["trace_id"]
    return str(trace_id)


def _for_methods(rule: Callable[[Call], None], *names: str) -> dict[str, Any]:
    return dict.fromkeys(names, rule)


REVIEW_RULES: Mapping[str, Rule] = {
    "create_assessment": sign_assessment,
    **_for_methods(keep_ratings, "update_assessment", "delete_assessment"),
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
