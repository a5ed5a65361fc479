"""Alembic's entry point: run the migrations on the engine that the catalogue has opened."""

from alembic import context

from corpus.catalogue.models import Base

engine = context.config.attributes["engine"]

with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
