"""Accounts of the review app, and decisions that settle what two reviewers disagree on."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Apply."""
    op.add_column(
        "decisions",
        sa.Column("adjudicates", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.add_column(
        "waiting",
        sa.Column("disputed", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.drop_index("waiting_by_worth", "waiting")
    op.create_index("waiting_by_worth", "waiting", ["disputed", "worth", "segment_id"])
    # Only what a browser had sent had a name until now.
    nameless = sa.text("SELECT id FROM decisions WHERE client_id IS NULL")
    name = sa.text("UPDATE decisions SET client_id = :name WHERE id = :id")
    for key in op.get_bind().scalars(nameless).all():
        op.get_bind().execute(name, {"id": key, "name": secrets.token_hex(16)})
    with op.batch_alter_table("decisions") as decisions:
        decisions.alter_column("client_id", existing_type=sa.Text(), nullable=False)
    op.create_table(
        "users",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("password", sa.Text(), nullable=True),
        sa.Column("disabled", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("added_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("users")
    with op.batch_alter_table("decisions") as decisions:
        decisions.alter_column("client_id", existing_type=sa.Text(), nullable=True)
    op.drop_index("waiting_by_worth", "waiting")
    op.drop_column("waiting", "disputed")
    op.create_index("waiting_by_worth", "waiting", ["worth", "segment_id"])
    op.drop_column("decisions", "adjudicates")
