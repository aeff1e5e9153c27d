"""Entries, which are only ever added, and texts, which can be erased."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_SENTENCE = "entries of the ledger are only ever added"
_REFUSE = f"BEGIN SELECT RAISE(ABORT, '{_SENTENCE}'); END"
# A slip is refused here; whoever drops the triggers is found out by the hashes.
_SQLITE = (
    f"CREATE TRIGGER entries_no_update BEFORE UPDATE ON entries {_REFUSE}",
    f"CREATE TRIGGER entries_no_delete BEFORE DELETE ON entries {_REFUSE}",
    # INSERT OR REPLACE deletes without asking the trigger above.
    f"""CREATE TRIGGER entries_no_replace BEFORE INSERT ON entries
    WHEN EXISTS (SELECT 1 FROM entries WHERE generation = NEW.generation OR hash = NEW.hash)
    {_REFUSE}""",  # noqa: S608 - a constant of this file
)
_POSTGRESQL = (
    (
        "CREATE FUNCTION entries_only_added() RETURNS trigger AS"
        f" $$ BEGIN RAISE EXCEPTION '{_SENTENCE}'; END $$ LANGUAGE plpgsql"
    ),
    (
        "CREATE TRIGGER entries_no_update BEFORE UPDATE OR DELETE ON entries"
        " FOR EACH ROW EXECUTE FUNCTION entries_only_added()"
    ),
    (
        "CREATE TRIGGER entries_no_truncate BEFORE TRUNCATE ON entries"
        " FOR EACH STATEMENT EXECUTE FUNCTION entries_only_added()"
    ),
)


def upgrade() -> None:
    """Create both tables and the triggers."""
    op.create_table(
        "entries",
        sa.Column("generation", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("previous", sa.Text, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False, unique=True),
        sa.Column("signature", sa.Text, nullable=False),
    )
    op.create_table(
        "texts",
        sa.Column("sha256", sa.Text, primary_key=True),
        sa.Column("text", sa.Text, nullable=False),
    )
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    for statement in _SQLITE if is_sqlite else _POSTGRESQL:
        op.execute(statement)
