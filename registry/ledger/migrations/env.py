"""What Alembic runs: the missing versions, inside the transaction that `open_ledger` began."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
