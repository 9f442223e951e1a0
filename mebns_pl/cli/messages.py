"""What the command line says when something is wrong: one line with the argument, the value and what is allowed."""

from __future__ import annotations

import difflib
import dis
import importlib
import inspect
import re
import typing
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException

_DELIBERATE = ("mebns_pl", "lightning", "pytorch_lightning", "jsonargparse", "torch")
"""Packages whose ``raise ValueError(...)`` tells a user of a wrong value."""
_TYPES = {"int": "an integer", "float": "a number", "bool": "true or false", "str": "a text", "list": "a list"}
_NO_LEAF = (
    "Does not validate against any of the Union",
    "Errors:",
    "Expected a path but",
    "Expected a <class 'NoneType'>",
)
_KEY = re.compile(r'Parser key "([^"]*)":\s*')
_CLASS = re.compile(r"Problem with given class_path '([^']*)':\s*")
_CALLABLE = re.compile(r"Type (\S*Callable\[.*?\]) expects a function or a callable class:\s*")
_NO_CLASS = re.compile(
    r"(?:Expected a dot import path string: (?P<text>\S+)|module '\S*' has no attribute '(?P<name>[^']*)'"
    r"|No module named '(?P<module>[^']*)'|Import path does not correspond to a subclass of)"
)
_UNKNOWN = re.compile(
    r"(?:unrecognized arguments: -*(?P<given>[^\s=]+).*|Option '(?P<option>[^']*)' is not accepted"
    r"|Subcommand '\S*' does not accept option '(?P<key>[^']*)')"
)


def user_message(error: BaseException) -> str | None:
    """What to tell a user of an error that is his to mend; None for all others, which are faults of the program.

    Those are this package's own errors (:class:`~mebns_pl.errors.DataError` and others), files that cannot be read
    or written (``OSError``), and values that this package, or a library it hands them on to, refuses by a ``raise`` of
    its own.

    Example:
        >>> from mebns_pl.errors import DataError
        >>> user_message(DataError("edges.csv: no such file"))
        'edges.csv: no such file'
        >>> user_message(ValueError("not raised by anybody")) is None
        True
    """
    while error.__cause__ is not None and not isinstance(error, OSError) and not _own(error):
        error = error.__cause__  # jsonargparse wraps what a class's constructor raises
    if isinstance(error, OSError):
        where = "" if error.filename is None else f"{error.filename}: "
        return where + (error.strerror or _one_line(str(error)))
    if (
        _own(error)
        or isinstance(error, MisconfigurationException)
        or (isinstance(error, ValueError | TypeError | RuntimeError) and _raised_on_purpose(error))
    ):
        return _one_line(str(error))
    return None


def parse_message(text: str, options: Iterable[str] = ()) -> str:
    r"""Tells in one line what jsonargparse has to say of a wrong argument.

    Args:
        text: its message, which tells every type that was tried on the way to the wrong value.
        options: names of all arguments, to find the one that was meant.

    Returns:
        ``argument: got value; allowed is ...``, or the message as it is where it is none of the known ones.

    Example:
        >>> parse_message('Parser key "data.batch_size":\n  Expected a <class \'int\'>. Got value: x')
        "data.batch_size: got 'x'; allowed is an integer"
        >>> parse_message("unrecognized arguments: --data.grph=cora", ["data.graph", "data.root"])
        'unknown argument data.grph; did you mean data.graph?'
    """
    found = _Found()
    lines = [line for line in text.splitlines() if line.strip()]
    if linked := re.match(r"argument (\S+) --> (\S+): ", text):
        return f"{linked[2]}: cannot be set, it follows {linked[1]}"
    if failed := re.match(r"Call to compute_fn of link '\w+\((\S+)\) --> \S+ with args \(.*?\) failed: (.*)", text):
        return f"{failed[1]}: {failed[2]}"
    for place, line in enumerate(lines):
        leaf = found.follow(line.strip().removeprefix("- "))
        if leaf:
            return found.told(leaf, lines[place:], options)
    return _one_line(text)


@dataclass
class _Found:
    """What the lines down to the reason have told."""

    keys: list[str] = field(default_factory=list)
    kind: str = ""
    class_path: str = ""

    def follow(self, line: str) -> str:
        """Takes a line in; gives the reason once it is reached."""
        while True:
            if key := _KEY.match(line):
                self.keys.append(key[1])
                self.kind, line = _annotation(self.class_path, key[1]), line[key.end() :]
            elif owner := _CLASS.match(line):
                self.class_path, line = owner[1], line[owner.end() :]
            elif kind := _CALLABLE.match(line):
                self.kind, line = kind[1], line[kind.end() :]
                self.class_path = ""
            elif line.startswith("Subtypes:"):
                self.kind = line
                return ""
            else:
                return "" if line.startswith(_NO_LEAF) else line

    def told(self, leaf: str, lines: list[str], options: Iterable[str]) -> str:
        """The message for a reason and the lines from there on."""
        where = ".".join(self.keys)
        unknown = _UNKNOWN.match(leaf)
        if unknown:
            given = next(name for name in unknown.groups() if name)
            return self._unknown(given.removesuffix(".class_path"), leaf, options)
        value = _value(lines)
        missing = _NO_CLASS.match(leaf)
        if missing:
            got = next((name for name in missing.groupdict().values() if name), value).removesuffix(".")
            kind = self.kind or _annotation(_owner(leaf), self.keys[-1] if self.keys else "")
            return f"{where}: got {got!r}; allowed {_classes(kind)}"
        allowed = _allowed(lines)
        if allowed:
            return f"{where}: got {value!r}; allowed is {allowed}"
        leaf = _one_line(re.split(r"\. Got value:", leaf)[0])
        return f"{where}: {leaf}" if where else _one_line(leaf if len(lines) < 2 or self.kind else " ".join(lines))

    def _unknown(self, given: str, leaf: str, options: Iterable[str]) -> str:
        owner = _found_class(self.class_path or _owner(leaf))
        known = _parameters(owner) if self.keys else list(options)
        while "." in given and given.split(".")[0] in known and self.keys:
            key, _, given = given.partition(".")
            owner = _found_class(_annotation(owner, key))
            self.keys.append(key)
            known = _parameters(owner)
        name = ".".join([*self.keys, given])
        near = difflib.get_close_matches(given, known, 1, 0.7)
        if near:
            return f"unknown argument {name}; did you mean {'.'.join([*self.keys, near[0]])}?"
        if self.keys and known:
            return f"unknown argument {name}; allowed are {', '.join(known)}"
        return f"unknown argument {name}; the option --help lists what is allowed"


def _value(lines: list[str]) -> str:
    """The innermost value that was refused."""
    text = "\n".join(lines)
    found = re.search(r"(?:Got value|Given value): (.*?)(?=\. Got value:|\n|$)", text)
    if not found:
        return ""
    nested = re.fullmatch(r"NestedArg\(key='[^']*', val='?(.*?)'?\)", found[1])
    return nested[1] if nested else found[1]


def _allowed(lines: list[str]) -> str:
    """What the types that were tried allow, in words; empty where the reason is not of that kind."""
    words = []
    for line in lines:
        kind = re.match(r"(?:- )?Expected a (?:<class '([\w.]+)'>|typing\.Literal\[(.*?)\](?:\.|$))", line.strip())
        if not kind:
            break
        if kind[2]:
            words += [word for word in kind[2].replace("'", "").split(", ") if word not in words]
        elif kind[1] != "NoneType":
            words.append(_TYPES.get(kind[1], f"a {kind[1].rpartition('.')[2]}"))
    return ", ".join(words[:-1]) + " or " * (len(words) > 1) + words[-1] if words else ""


def _classes(kind: str) -> str:
    """The classes that would do, for messages: the package's own of a base class, which ``kind`` names last."""
    names = re.findall(r"(?:mebns_pl|torch|lightning)[\w.]*\.\w+", kind)
    base = _found_class(names[-1]) if names else None
    if base is None:
        return "is the import path of a class"
    own = sorted({cls.__name__ for cls in _concrete(base) if cls.__module__.startswith("mebns_pl.")})
    if own:
        return f"are {', '.join(own)}, or the import path of another {base.__name__}"
    return f"is the name or the import path of {'an' if base.__name__[0] in 'AEIOU' else 'a'} {base.__name__}"


def _concrete(base: type) -> Iterable[type]:
    if not inspect.isabstract(base) and not base.__name__.startswith(("Abstract", "_")):
        yield base
    subclasses: list[type] = base.__subclasses__()
    for cls in subclasses:
        yield from _concrete(cls)


def _found_class(path: str) -> type | None:
    module, _, name = path.rpartition(".")
    try:
        found: Any = getattr(importlib.import_module(module or "mebns_pl"), name, None)
    except ImportError:
        return None
    return found if isinstance(found, type) else None


def _owner(leaf: str) -> str:
    """The class whose arguments a reason tells of."""
    return next(iter(re.findall(r"class_path='([^']*)'", leaf)), "")


def _parameters(cls: type | None) -> list[str]:
    """What a user may set; the first of an optimizer's is not."""
    given = [] if cls is None else inspect.signature(cls).parameters
    return [name for name in given if name not in ("spec", "params")]


def _annotation(owner: str | type | None, parameter: str) -> str:
    """The type of a constructor's parameter, as text; empty where it is not known."""
    cls: Any = _found_class(owner) if isinstance(owner, str) else owner
    if cls is None:
        return ""
    try:
        kind = typing.get_type_hints(cls.__init__).get(parameter, "")
    except NameError:
        return ""
    return f"{kind.__module__}.{kind.__qualname__}" if isinstance(kind, type) else str(kind)


def _own(error: BaseException) -> bool:
    """Whether it is of one of this package's own classes of errors."""
    return type(error).__module__.split(".")[0] == "mebns_pl"


def _raised_on_purpose(error: BaseException) -> bool:
    """Whether the error comes from a ``raise`` statement of a package that refuses wrong values so."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or trace.tb_frame.f_globals.get("__name__", "").split(".")[0] not in _DELIBERATE:
        return False
    return dis.opname[trace.tb_frame.f_code.co_code[trace.tb_lasti]] == "RAISE_VARARGS"


def _one_line(text: str) -> str:
    return " ".join(text.split())
