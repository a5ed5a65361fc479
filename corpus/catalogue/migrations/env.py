"""Alembic's entry point: run the migrations in the transaction that the catalogue has begun."""

from alembic import context

from corpus.catalogue.models import Base

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
