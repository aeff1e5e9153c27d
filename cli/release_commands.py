"""Commands of the release manager and of on-call. The brakes need neither MLflow nor Prefect."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.model_option import MODEL
from core.console import say, say_json

if TYPE_CHECKING:
    from flows.promote import Promotion, Repaired
    from operations.awaiting import Serving
    from operations.orders import ServedModel

# Of brakes, which are typed in a hurry: mostly there is one model.
_RELEASED = click.option(
    "--model",
    help="Name of the registered model. Default: the only one that the ledger knows.",
)
_REASON = click.option(
    "--reason", required=True, help="Why, in a sentence: it goes on record."
)
_WAIT = 1800
"""Seconds: a release that loads slowly, behind another one that does."""
_LONGEST_WAIT = 86_400
_WAIT_FOR_RECEIPT = 600
"""Seconds until another installation has taken a version in and answered the wish."""


@click.command()
@click.argument("version")
@MODEL
@_REASON
@click.option(
    "--wait",
    is_flag=True,
    help="Return once it has full traffic and MLflow's champion is it, or say why not.",
)
@click.option(
    "--timeout",
    type=click.IntRange(1, _LONGEST_WAIT),
    help=f"Seconds that --wait takes at most. Default: {_WAIT}.",
)
@click.option(
    "--to",
    "target",
    default="",
    metavar="NAME",
    help="Another installation of environments.yaml, whose own policy judges it again.",
)
@click.option("--json", "as_json", is_flag=True, help="One machine-readable line last.")
@click.pass_context
def promote(
    ctx: click.Context,
    version: str,
    model: str,
    reason: str,
    target: str,
    *,
    wait: bool,
    timeout: int | None,
    as_json: bool,
) -> None:
    """Judge VERSION and, where it passes, put it in front of users.

    With --to, send it to another installation, and ask for its release there.
    With --wait, Ctrl-C ends the waiting alone: the controller carries the release to its end.
    Exit code: 0 released, 3 rejected, 4 undecided, 75 told to stop waiting.
    """
    if timeout is not None and not wait:
        raise click.UsageError("--timeout goes with --wait.")
    if target:
        seconds = timeout or (_WAIT if wait else _WAIT_FOR_RECEIPT)
        errand = (model, version, target, reason, seconds, wait)
        ctx.exit(_send(errand, as_json=as_json))
    # Imported here, as in every command, so that `assay --help` answers at once.
    from operations.awaiting import promote_and_wait
    from operations.order_text import promotion_exit_code, say_promotion
    from operations.orders import promote_version

    outcome: Promotion | Repaired | Serving
    if wait:
        outcome = promote_and_wait(model, version, reason, timeout or _WAIT)
    else:
        outcome = promote_version(model, version, reason)
    # The findings come before the JSON, which a program reads as the last line.
    say_promotion(outcome)
    if as_json:
        say_json(outcome.model_dump(mode="json"))
    ctx.exit(promotion_exit_code(outcome))


def _send(errand: tuple[str, str, str, str, int, bool], *, as_json: bool) -> int:
    from operations.sending import Errand, send_version

    # What the other side said comes before the JSON, as of a promotion here.
    sent = send_version(Errand(*errand))
    say(sent.text)
    if as_json:
        say_json(sent.model_dump(mode="json"))
    return sent.exit_code


@click.command()
@click.argument("version")
@MODEL
@_REASON
def adopt(version: str, model: str, reason: str) -> None:
    """Vouch for a VERSION that no run entered into the ledger.

    It is judged on its evidence as any other.
    """
    from operations.orders import adopt_version

    registration = adopt_version(model, version, reason)
    made = registration.made
    package = made.package_sha256[:12]
    adapter = made.adapter_sha256[:12]
    say(
        f"Version {made.version} of {model} is adopted by {registration.by} "
        f"(entry {registration.generation}): package {package}, adapter {adapter}. "
        "It is unjudged: `assay promote` judges it."
    )


@click.command()
@click.argument("version")
@MODEL
@_REASON
def approve(version: str, model: str, reason: str) -> None:
    """Say that VERSION, which somebody else trained, may be released."""
    from operations.approving import approve_version

    approvals = approve_version(model, version, reason)
    say(f"Approvals of {approvals.target.place}: {approvals.text}.")


@click.command()
@click.argument("version")
@MODEL
@_REASON
def disapprove(version: str, model: str, reason: str) -> None:
    """Take your approval of VERSION back."""
    from operations.approving import disapprove_version

    approvals = disapprove_version(model, version, reason)
    say(f"Approvals of {approvals.target.place}: {approvals.text}.")


@click.command()
@_RELEASED
@_REASON
@click.option(
    "--to", "version", help="A version that once served. Default: what served before."
)
def rollback(model: str | None, reason: str, version: str | None) -> None:
    """Give full traffic back to what served before."""
    from operations.orders import roll_back_model

    _say_what_serves(roll_back_model(model, reason, version))


@click.command()
@click.argument("version")
@_RELEASED
@_REASON
def revoke(version: str, model: str | None, reason: str) -> None:
    """Take VERSION out of service for ever.

    Where it serves now, what served before takes over, or the base.
    """
    from operations.revoking import publish_revocation, revoke_version

    revocation = revoke_version(model, version, reason)
    say(
        f"Version {version} of {revocation.served.model} is revoked: it never serves again."
    )
    _say_what_serves(revocation.served)
    # Last, since MLflow may keep it waiting and the version is out of service already.
    publish_revocation(revocation)


@click.command("skip-canary")
@_RELEASED
@_REASON
def skip_canary(model: str | None, reason: str) -> None:
    """Give a release all the traffic before its canary is over.

    Only somebody else than who began the release may do so.
    """
    from operations.orders import skip_canary_of

    served = skip_canary_of(model, reason)
    say(
        f"The canary of {served.model} is skipped "
        f"(entry {served.ledger_state.head.generation}): "
        "it gets all requests once it is loaded. `assay status` shows when."
    )


@click.command("serve-base")
@_RELEASED
@_REASON
def serve_base(model: str | None, reason: str) -> None:
    """Have the base model answer under the model's name, until the next release or rollback."""
    from operations.orders import serve_base_of

    _say_what_serves(serve_base_of(model, reason))


@click.group()
def release() -> None:
    """Look at releases."""


@release.command()
@click.argument("version")
@MODEL
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file to write. Default: NAME-VERSION.html, and none with --attach.",
)
@click.option(
    "--attach",
    is_flag=True,
    help="Put the page among the artifacts of the version's run in MLflow.",
)
def report(version: str, model: str, out: Path | None, *, attach: bool) -> None:
    """Write all there is to know of VERSION on one page that needs nothing else.

    Verdict, scores, plots, the worst answers side by side, groups, events, fingerprints.
    """
    from operations.release_report.publish import report_release

    path = report_release(model, version, out, attach=attach)
    if attach:
        say(f"The page is attached to the run of version {version} of {model}.")
    if path is not None:
        say(f"The page is {path}.")


@click.command()
@_REASON
def freeze(reason: str) -> None:
    """Stop releases: none begins, and one on its way is aborted. Rollback stays possible."""
    from operations.orders import freeze_releases

    ledger_state = freeze_releases(reason)
    say(
        f"Frozen (entry {ledger_state.head.generation}): no release begins. "
        "Going back still works. End it with assay unfreeze --reason …"
    )


@click.command()
@_REASON
def unfreeze(reason: str) -> None:
    """Allow releases again."""
    from operations.orders import unfreeze_releases

    ledger_state = unfreeze_releases(reason)
    say(f"Releases may begin again (entry {ledger_state.head.generation}).")


@click.command()
@MODEL
@_REASON
@click.option(
    "--rule",
    "rules",
    required=True,
    multiple=True,
    help=(
        "A rule of the gate judge: human_rating, approvals, policy_change, package_signature, "
        "freshness, comparator, anchor. May come several times."
    ),
)
@click.option(
    "--until",
    required=True,
    help="A time, as 2026-12-01T18:00+01:00, or a span, as 24h or 7d.",
)
def waive(model: str, reason: str, rules: tuple[str, ...], until: str) -> None:
    """Suspend rules of the gate `judge` for a model until a time.

    Who said so and why is on record.
    """
    from operations.order_text import say_waiver
    from operations.waiving import check_waivers, enter_waiver

    # All of them first: a slip in the last one leaves no half behind.
    check_waivers(model, rules, until)
    for rule in rules:
        say_waiver(enter_waiver(model, rule, until, reason))


def _say_what_serves(served: "ServedModel") -> None:
    from operations.order_text import describe_way_back

    state = served.ledger_state
    generation = state.head.generation
    model = state.model(served.model)
    # Also where a release is current: the base answers in its place.
    if model.serves_base:
        way_back = describe_way_back(served.model, state)
        say(f"The base answers for {served.model} now (entry {generation}).{way_back}")
    elif model.current is not None:
        version = model.current.release.version
        fingerprint = model.current.release.fingerprint
        say(
            f"{served.model} is version {version} now ({fingerprint}, entry {generation})."
        )
    else:
        say(f"Nothing of {served.model} serves (entry {generation}).")


COMMANDS: tuple[click.Command, ...] = (
    promote,
    skip_canary,
    adopt,
    approve,
    disapprove,
    rollback,
    revoke,
    serve_base,
    release,
    freeze,
    unfreeze,
    waive,
)
