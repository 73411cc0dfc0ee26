"""How alembic runs the revisions: on the connection of `shoal.store.migration`, inside its one transaction."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    # SQLite undoes schema changes like any other write, which alembic does not assume by itself.
    transactional_ddl=True,
)
context.run_migrations()
