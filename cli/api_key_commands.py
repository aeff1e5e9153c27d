"""`assay api-keys`: who may call the endpoint, and how much."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from serving.endpoint.api_keys import ApiKey

_AT_LEAST_ONE = click.IntRange(min=1)


@click.group("api-keys")
def api_keys() -> None:
    """Create, list and revoke the keys with which clients call the endpoint.

    Once there is a key, the endpoint asks for one. It need not be started again.
    """


@api_keys.command()
@click.argument("name")
@click.option(
    "--requests-per-minute",
    type=_AT_LEAST_ONE,
    help="At most so many; others are answered 429. Default: any number.",
)
@click.option(
    "--tokens-per-day",
    type=_AT_LEAST_ONE,
    help="Of prompts and answers together. Default: any number.",
)
def create(
    name: str, requests_per_minute: int | None, tokens_per_day: int | None
) -> None:
    """Make a key for NAME and print it: it is shown this once."""
    # Imported here, as in every command, so that `assay --help` answers at once.
    from core.home import make_home
    from operations.orders import current_project
    from serving.endpoint.api_keys import create_key

    home = current_project().home
    make_home(home)
    created = create_key(
        home,
        name,
        requests_per_minute,
        tokens_per_day,
    )
    # Alone on standard output, so that a script can store it; the rest is for people.
    click.echo(created.text)
    click.echo(
        f"This is key {created.key.id} of {name}. It is nowhere else: store it now. "
        f"`assay api-keys revoke {created.key.id}` takes it back.",
        err=True,
    )


@api_keys.command("list")
def list_keys() -> None:
    """List all keys, the oldest first: id, name, limits, and when each was made."""
    from operations.orders import current_project
    from serving.endpoint.api_keys import list_keys as known_keys

    for key in known_keys(current_project().home):
        click.echo(_describe(key))


@api_keys.command()
@click.argument("key_id", metavar="ID")
def revoke(key_id: str) -> None:
    """Revoke the key ID, which `assay api-keys list` shows; it opens nothing any more."""
    from operations.orders import current_project
    from serving.endpoint.api_keys import revoke_key

    key = revoke_key(current_project().home, key_id)
    click.echo(f"Key {key.id} of {key.name} is revoked.")


def _describe(key: "ApiKey") -> str:
    minute = key.requests_per_minute or "any"
    day = key.tokens_per_day or "any"
    state = "in use"
    if key.revoked is not None:
        state = f"revoked {key.revoked:%Y-%m-%d}"
    columns = (
        key.id,
        f"{key.name:20}",
        f"made {key.created:%Y-%m-%d}",
        f"{minute} requests a minute",
        f"{day} tokens a day",
        state,
    )
    return "  ".join(columns)


COMMANDS: tuple[click.Command, ...] = (api_keys,)
