"""Commands about keys: which there are, a new one, one that counts no more, a new signature."""

from typing import TYPE_CHECKING

import click

from cli.model_option import MODEL

if TYPE_CHECKING:
    from registry.ledger.entries import Role

_REASON = click.option(
    "--reason", required=True, help="Why; it is kept beside the ledger."
)
_SHOWN = 12


@click.command("keys")
@click.option(
    "--whole",
    is_flag=True,
    help="Print each key's id whole, as environments.yaml of another installation needs it.",
)
def list_keys(*, whole: bool) -> None:
    """List the keys that the ledger knows, what each is for, and which of them are here."""
    from operations.keys import list_keys as known_keys

    for known in known_keys():
        key = known.key
        # Whether a backup of this home holds the private half, too.
        place = "this home" if known.is_here else "not here"
        columns = (
            key.key_id if whole else key.key_id[:_SHOWN],
            f"{key.role:10}",
            f"{place:9}",
            known.standing,
        )
        click.echo("  ".join(columns))


@click.command("rotate-key")
@click.option(
    "--role",
    type=click.Choice(["controller", "admission", "packaging"]),
    default="controller",
    show_default=True,
    help="What the key signs for.",
)
@_REASON
def rotate_key(role: "Role", reason: str) -> None:
    """Replace this home's key of a role; if interrupted, run it again."""
    # Imported late, so that `assay --help` answers at once.
    from operations.keys import rotate_key as rotate

    rotation = rotate(reason, role)
    click.echo(
        f"Key {rotation.key_id[:_SHOWN]} signs from now on; the one before it is revoked. "
        f"Take a backup of {rotation.folder}."
    )


@click.command("revoke-key")
@click.argument("key")
@_REASON
@click.option(
    "--compromised",
    is_flag=True,
    help="Somebody else may have it: nothing that it signed is released again.",
)
def revoke_key(key: str, reason: str, *, compromised: bool) -> None:
    """Revoke KEY, the beginning of an id that `assay audit keys` shows.

    What serves goes on serving; an alarm names what a compromised key signed.
    """
    from operations.keys import revoke_key_named

    revoked = revoke_key_named(key, reason, is_compromised=compromised)
    fact = " as compromised" if compromised else ""
    shown, role = revoked.key_id[:_SHOWN], revoked.role
    click.echo(
        f"Key {shown} ({role}) is revoked{fact}. "
        f"`assay audit rotate-key --role {role}` makes another one."
    )


@click.command()
@click.argument("version")
@MODEL
def sign(version: str, model: str) -> None:
    """Sign the package of VERSION again, where its signature is missing or does not count.

    Signed are the bytes that the ledger registered, and no others.
    """
    from operations.keys import sign_version

    key = sign_version(model, version)
    click.echo(
        f"The package of version {version} of {model} is signed by key "
        f"{key.key_id[:_SHOWN]}. `assay promote` judges it."
    )


AUDIT_COMMANDS: tuple[click.Command, ...] = (list_keys, rotate_key, revoke_key)
