"""The queue of the reviewers, leases, decisions that are taken back, segments that are cut anew."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Apply."""
    op.add_column(
        "segments",
        sa.Column("superseded", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.add_column("decisions", sa.Column("undone_by", sa.Integer(), nullable=True))
    op.add_column("decisions", sa.Column("cut", sa.JSON(), nullable=True))
    op.add_column("decisions", sa.Column("lead_ms", sa.Integer(), nullable=True))
    op.create_table(
        "waiting",
        sa.Column("segment_id", sa.Text(), nullable=False),
        sa.Column("recording_id", sa.Text(), nullable=False),
        sa.Column("worth", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["segment_id"], ["segments.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("segment_id"),
    )
    op.create_index("waiting_by_worth", "waiting", ["worth", "segment_id"])
    op.create_index("waiting_of_recording", "waiting", ["recording_id", "worth"])
    op.create_table(
        "leases",
        sa.Column("segment_id", sa.Text(), nullable=False),
        sa.Column("reviewer", sa.Text(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["segment_id"], ["segments.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("segment_id", "reviewer"),
        sa.UniqueConstraint("token"),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("leases")
    op.drop_table("waiting")
    for column in ("lead_ms", "cut", "undone_by"):
        op.drop_column("decisions", column)
    op.drop_column("segments", "superseded")
