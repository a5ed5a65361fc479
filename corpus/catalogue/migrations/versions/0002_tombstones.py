"""Tombstones, and indices without which a removal reads whole tables for each transcript."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "tombstones",
        sa.Column("item", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=True),
        sa.Column("channel_id", sa.Text(), nullable=True),
        sa.Column("files", sa.JSON(), nullable=False),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("item"),
    )
    op.create_index("ix_decisions_transcript_id", "decisions", ["transcript_id"])
    op.create_index("ix_verdicts_transcript_id", "verdicts", ["transcript_id"])


def downgrade() -> None:
    """Undo."""
    op.drop_index("ix_verdicts_transcript_id", "verdicts")
    op.drop_index("ix_decisions_transcript_id", "decisions")
    op.drop_table("tombstones")
