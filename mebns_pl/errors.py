"""Errors that a user can mend."""

from __future__ import annotations


class DataError(ValueError):
    """Data that cannot be used; the message names the file, the line, the value and what is allowed."""
