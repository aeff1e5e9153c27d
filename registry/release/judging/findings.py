"""What one rule found, in the words of every rule."""

from datetime import UTC, datetime

from pipelines.values.verdict import Finding


def passed(rule: str, text: str) -> Finding:
    """The rule is met."""
    return Finding(rule=rule, outcome="passed", text=text)


def undecided(rule: str, text: str) -> Finding:
    """Something is missing that may come yet: a person may waive some of these rules."""
    return Finding(rule=rule, outcome="undecided", text=text)


def rejected(rule: str, text: str) -> Finding:
    """It was shown to be worse, or forbidden: nobody may waive that."""
    return Finding(rule=rule, outcome="rejected", text=text)


def format_moment(moment: datetime) -> str:
    """To the minute, in UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
