"""What a person should look at of a release's engine."""

from serving.endpoint.need import Need

# Characters of a reason: the log has all of it.
_LONGEST = 300


def alarm_while_ready(need: Need, fault: str) -> str | None:
    """Of one that answers, whose package has that fault; empty: none."""
    name = _name_of(need)
    if fault:
        return f"{name} still serves, but its package is damaged: {fault}"
    compromised_at = need.signer_compromised_at
    # It was judged before that, and its bytes are in the ledger: it is not taken away.
    if compromised_at is not None:
        return (
            f"{name} still serves, and the key that signed its package was revoked as "
            f"compromised (entry {compromised_at}): release another version, "
            "or `assay revoke` this one."
        )
    return None


def alarm_while_stood_in_for(need: Need, engine: str, reason: str) -> str:
    """Of one that this engine answers for, since the one that scored it cannot."""
    scored = need.recorded.release.spec.engine
    fact = reason[:_LONGEST].rstrip(". ")
    return (
        f"{_name_of(need)} is answered by {engine} in the place of {scored}, which scored it: "
        f"{fact}. Have {scored} run here and start the endpoint again, or set "
        f"ASSAY_ENGINE={engine} if it is to stay so."
    )


def alarm_while_down(need: Need, detail: str) -> str | None:
    """Of one that does not load, or keeps ending; none for a release that is on its way."""
    if need.is_pending:
        return None
    return f"{_name_of(need)} does not run: {detail}"


def _name_of(need: Need) -> str:
    label = need.label
    return f"{label[0].upper()}{label[1:]}"
