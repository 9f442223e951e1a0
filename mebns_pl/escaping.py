"""Names are text: whatever a file calls its nodes stays text wherever it is shown or written.

Terminals obey control characters, TensorBoard renders Markdown with HTML, and spreadsheets run cells.
"""

from __future__ import annotations

import re
import unicodedata

_MARKUP = str.maketrans({mark: f"&#{ord(mark)};" for mark in "&<>\"'`*_[]()|~\\$#!"})
_COMMAND = re.compile(r"[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")


def visible(text: str) -> str:
    r"""The text with characters that command a terminal written out: controls, line ends, changes of direction.

    Example:
        >>> visible("a\x1b[31mb") == r"a\x1b[31mb"
        True
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(f"{char!a}"[1:-1] if _commands(char) else char for char in text)


def in_markdown(text: str) -> str:
    """The text for a page of Markdown, whose marks and tags it may hold as characters only.

    Example:
        >>> in_markdown("a|<b>")
        'a&#124;&#60;b&#62;'
    """
    return visible(text).translate(_MARKUP)


def in_cell(text: str) -> str:
    """The text for a cell of a CSV file: what a spreadsheet would run begins with an apostrophe, but for plain numbers.

    Example:
        >>> in_cell("=1+1"), in_cell("-3")
        ("'=1+1", '-3')
    """
    return f"'{text}" if _COMMAND.match(text) and not _NUMBER.fullmatch(text) else text


def _commands(char: str) -> bool:
    """Controls, formats (changes of direction, but not what joins letters and emoji), surrogates, line ends."""
    return unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") and char not in "\u200c\u200d\u00ad"
