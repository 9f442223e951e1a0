"""The last line of a run's ``config.yaml``, by which a file that was cut or changed is told from a whole one."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from mebns_pl.errors import DataError

log = logging.getLogger(__name__)

_FIRST = (
    "# The options of a run. The last line is a checksum, which may stay as it is when something is changed by hand."
)
_LAST = "# sha256: "


def sealed(text: str) -> str:
    """A text between a line that says what it is and one with its checksum.

    Example:
        >>> sealed("a: 1").splitlines()[1:]
        ['a: 1', '# sha256: 067dd2a7e9dc7d3459e4afddce97ce91cf5d1579a63810b75731e12d2f069687']
    """
    text = f"{_FIRST}\n{text.rstrip()}\n"
    return f"{text}{_LAST}{_digest(text)}\n"


def check_seal(path: Path, text: str) -> None:
    """Looks at a file that :func:`sealed` may have made; of another one it takes no notice.

    That something in it was changed is told in the log, for it may have been on purpose.

    Args:
        path: the file, for messages.
        text: what is in it.

    Raises:
        DataError: its end is missing.
    """
    if not text.startswith(_FIRST[:24]):
        return
    body, last, found = text.rpartition(_LAST)
    if not last or len(found.strip()) != 64:
        raise DataError(
            f"{path}: its end is missing, the line {_LAST.strip()!r} with 64 digits; take a whole copy, or, if nothing "
            "else is missing, remove the first line, too"
        )
    if found.strip() != _digest(body):
        log.warning("%s: changed since its run wrote it", path)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
