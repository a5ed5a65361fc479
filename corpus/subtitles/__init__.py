"""Subtitles: read, cleaned and judged."""
