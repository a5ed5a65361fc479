"""A row for each segment as lists of them need it, and what datasets hold out."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Apply."""
    op.add_column(
        "recordings", sa.Column("held_out", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.create_table(
        "overview",
        sa.Column("segment_id", sa.Text(), nullable=False),
        sa.Column("recording_id", sa.Text(), nullable=False),
        sa.Column("milliseconds", sa.Integer(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=True),
        sa.Column("worth", sa.Double(), nullable=False),
        sa.Column("logprob", sa.Double(), nullable=True),
        sa.Column("cer", sa.Double(), nullable=True),
        sa.Column("characters", sa.Integer(), nullable=True),
        sa.Column("double", sa.Boolean(), nullable=False),
        sa.Column("decision_id", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["segment_id"], ["segments.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("segment_id"),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("overview")
    op.drop_column("recordings", "held_out")
