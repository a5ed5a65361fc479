"""Breaks and dialogues in tracks, their timing, words of transcripts, and models."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Apply."""
    op.add_column("recordings", sa.Column("uploader", sa.Text(), nullable=True))
    op.add_column("recordings", sa.Column("timing", sa.JSON(), nullable=True))
    for name in ("after_break", "is_dialogue"):
        column: sa.Column[bool] = sa.Column(
            name, sa.Boolean(), nullable=False, server_default=sa.false()
        )
        op.add_column("cues", column)
    op.add_column("transcripts", sa.Column("words", sa.JSON(), nullable=True))
    op.create_table(
        "models",
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("lineage", sa.JSON(), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("origin"),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("models")
    op.drop_column("transcripts", "words")
    for name in ("is_dialogue", "after_break"):
        op.drop_column("cues", name)
    for name in ("timing", "uploader"):
        op.drop_column("recordings", name)
