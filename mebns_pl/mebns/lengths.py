"""Lengths of time in a run: a number of epochs, or a share of the run."""

from __future__ import annotations

from mebns_pl.checks import expect

Length = int | float
"""Epochs, a whole number; or a share of the run's epochs, a number with a point in [0, 1)."""


def check_length(least: int, **options: Length | None) -> None:
    """Refuses what is neither a number of epochs nor a share.

    Args:
        least: the least number of epochs.
        options: lengths by the names that people know them by; None passes.

    Raises:
        ValueError: names the option, what it was given, and what is allowed.
    """
    shares = "(0, 1)" if least else "[0, 1)"
    allowed = f"a whole number of epochs, {least} or more, or a share of the run's epochs in {shares} as 0.2"
    for name, length in options.items():
        if length is not None:
            whole = isinstance(length, int) and not isinstance(length, bool)
            expect(
                length >= least if whole else 0 <= length < 1 and (length > 0 or not least), allowed, **{name: length}
            )


def epochs_of(length: Length, num_epochs: int) -> int:
    """How many epochs a length is in a run of ``num_epochs``; shares are rounded, half to even.

    Example:
        >>> epochs_of(20, 60), epochs_of(0.2, 60), epochs_of(0.2, 4)
        (20, 12, 1)
    """
    return length if isinstance(length, int) else round(length * num_epochs)
