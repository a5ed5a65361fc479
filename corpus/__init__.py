"""Collect speech, turn it into labelled segments, and build the training set."""

__version__ = "0.1.0"
