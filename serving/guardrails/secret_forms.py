"""Forms of passwords and keys that services give out, as detect-secrets knows them, too."""

from collections.abc import Iterator

from serving.guardrails.patterns import Action, Pattern

_PRIVATE_KEY = (
    r"-----BEGIN (?:[A-Z]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:[A-Za-z0-9+/=:,.\\\s]|-(?!----)){0,6000}+"
    r"(?:-----END (?:[A-Z]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----|(?!-----E))"
)
_FORMS = (
    # Amazon, GitHub, GitLab, Slack, Google, Stripe, npm, PyPI, Hugging Face.
    r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[0-9A-Z]{16}(?![A-Za-z0-9])",
    r"(?<![A-Za-z0-9])gh[pousr]_[A-Za-z0-9]{36,255}",
    r"(?<![A-Za-z0-9])github_pat_[A-Za-z0-9_]{22,255}",
    r"(?<![A-Za-z0-9])glpat-[A-Za-z0-9_-]{20,100}",
    r"(?<![A-Za-z0-9])xox[abeoprs]-[A-Za-z0-9-]{10,250}",
    r"(?<![A-Za-z0-9])AIza[0-9A-Za-z_-]{35}",
    r"(?<![A-Za-z0-9])[rs]k_live_[0-9A-Za-z]{10,99}",
    r"(?<![A-Za-z0-9])npm_[A-Za-z0-9]{36}",
    r"(?<![A-Za-z0-9])pypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50,250}",
    r"(?<![A-Za-z0-9])hf_[A-Za-z0-9]{30,40}",
    # OpenAI and those who write theirs alike.
    r"(?<![A-Za-z0-9])sk-[A-Za-z0-9_-]{20,250}",
    # A signed token, a private key, and a password in an address.
    r"(?<![A-Za-z0-9])eyJ[\w-]{10,1000}\.eyJ[\w-]{10,3000}\.[\w-]{10,1000}",
    _PRIVATE_KEY,
    r"(?<![A-Za-z0-9])[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s/:@]{1,100}:[^\s/@]{1,200}@",
)


def secret_patterns(action: Action) -> Iterator[Pattern]:
    """Patterns of every form that is known here."""
    import regex

    for form in _FORMS:
        yield Pattern("secret", regex.compile(form), action)
