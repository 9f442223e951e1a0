"""What the command line says when something is wrong: one line with the argument, the value and what is allowed."""

from __future__ import annotations

import difflib
import inspect
import os
import re
from argparse import SUPPRESS, Action, ArgumentError, ArgumentParser, _SubParsersAction
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import NoneType, UnionType
from typing import Any, Literal, NoReturn, Union, get_args, get_origin

import yaml
from jsonargparse import Namespace, get_loader, set_loader
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser
from torch import nn

from mebns_pl.bounded_yaml import check_yaml
from mebns_pl.cli.trust import refusal
from mebns_pl.errors import DataError
from mebns_pl.escaping import visible
from mebns_pl.models.encoders.abstract import AbstractEncoder
from mebns_pl.negatives.sampler import Sampler

_WORDS = {NoneType: "null", int: "an integer", float: "a number", bool: "true or false", str: "a text", list: "a list"}

_load = get_loader("yaml")


def _load_bounded(text: str) -> Any:
    """Values of options, on the command line and in files that options name: nothing is made of what is too large."""
    check_yaml(text, "options")
    return _load(text)


set_loader("yaml", _load_bounded, (yaml.YAMLError,))


def user_message(error: BaseException) -> str | None:
    """What to tell a user of an error that is his to mend; None for all others, which are faults of the program.

    Those are this package's own errors (:class:`~mebns_pl.errors.DataError` and others), files that cannot be read or
    written (``OSError``), and what Lightning refuses. Of other values that are refused :func:`bad_input` makes such.

    Example:
        >>> user_message(DataError("edges.csv: no such file"))
        'edges.csv: no such file'
        >>> user_message(ValueError("of nobody's input")) is None
        True
    """
    if isinstance(error, OSError) and error.strerror:
        return visible(f"{os.fsdecode(error.filename)}: {error.strerror}" if error.filename else error.strerror)
    own = type(error).__module__.startswith("mebns_pl.")
    told = own or isinstance(error, OSError | MisconfigurationException)
    return visible(" ".join(str(error).split())) if told else None


@contextmanager
def bad_input(over: Callable[[], bool] = bool) -> Iterator[None]:
    """Takes a value that is refused within for a user's: where classes are made, and where a run is prepared.

    Args:
        over: whether that is over, so that what goes wrong is a fault of the program; by default it never is.

    Raises:
        DataError: in place of a ``ValueError`` or ``TypeError``, with its text.

    Example:
        >>> with bad_input():
        ...     raise ValueError("top_k: expected 1 or more, got 0")
        Traceback (most recent call last):
            ...
        mebns_pl.errors.DataError: top_k: expected 1 or more, got 0
    """
    try:
        yield
    except (ValueError, TypeError) as error:
        if over():
            raise
        causes = list(_causes(error))  # jsonargparse wraps what a class's constructor raises
        for cause in causes:
            if user_message(cause) is not None:
                raise cause from cause.__cause__
        raise DataError(str(causes[-1])) from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


_SAMPLER_OPTIONS = [f"model.sampler.{name}" for name in inspect.signature(Sampler).parameters]


class _ToldError(ArgumentError):
    """What is wrong with an argument, told by the parser whose it is."""


class _RefusedError(TypeError):
    """A value that an argument does not take: its name, what was given, and its type, None if it has no such."""

    def __init__(self, error: Exception, action: Action, key: str, value: Any) -> None:
        super().__init__(str(error))
        path = value.get("class_path") if isinstance(value, dict | Namespace) else None
        self.key, self.value = key, "null" if value is None else str(path or value)
        self.kind = getattr(action, "_typehint", None)


class OneLineParser(LightningArgumentParser):
    """Refuses wrong arguments by one line, without a page of usage.

    jsonargparse makes parsers of this class, too, for the arguments of each class that an argument names. They hand on
    what they refuse, and the outermost tells it with all the names that lead there.
    """

    _seen: tuple[Action, list[str]] = (Action([], ""), [])

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Says what is wrong, and exits with 2."""
        told = self._told(message, ex)
        if not self.exit_on_error:
            raise _ToldError(None, told) from ex
        if os.environ.get("MEBNS_DEBUG"):
            super().error(message, ex)
        self.exit(2, f"mebns: error: {visible(told.lstrip('.: '))}\n")

    def _told(self, message: str, error: Exception | None) -> str:
        """``.name: reason`` or ``: reason``, to be put after the name of the argument whose class it is about."""
        if told := refusal(" ".join([message, *(str(cause) for cause in _causes(error))])):
            return f": {told}"
        refused = None
        for cause in _causes(error):
            if isinstance(cause, DataError):
                return str(cause)
            if isinstance(cause, _ToldError):
                return f".{refused.key}{cause}" if refused else str(cause)
            if isinstance(cause, _RefusedError) and cause.kind is not None:
                refused = cause
        allowed = _allowed(refused.kind) if refused else []
        if refused and refused.value.rpartition(".")[2] not in allowed:
            # A class of one's own, which may be allowed, and of which the arguments are wrong
            if (told := _of_arguments(error)) and not _MISSING.search(told):
                return f".{refused.key}: {told}"
            *others, last = allowed
            words = f"{', '.join(others)} or {last}" if others else last
            value = refused.value if len(refused.value) <= _LONGEST else f"{refused.value[:_LONGEST]}..."
            return f".{refused.key}: got {value!r}{_not_found(error)}; allowed is {words}"
        if refused and (told := _of_arguments(error)):  # of a class that is allowed the arguments are wrong
            name = refused.value.rpartition(".")[2]
            hint = f"; the bare name {name} is enough" if _MISSING.search(told) else ""
            return f".{refused.key}: {told}{hint}"
        if error is None or isinstance(error, KeyError):  # no such argument
            message += self._hint(message)
        return f": {' '.join(message.split())}"

    def _hint(self, message: str) -> str:
        names = _option_names(self)
        for word in re.findall(r"[\w.]+", message):
            # People look for the sampler's options among those of data, or of the model itself
            elsewhere = [name for name in _SAMPLER_OPTIONS if name.rpartition(".")[2] == word.rpartition(".")[2]]
            near = elsewhere or difflib.get_close_matches(word, names, 1, 0.7)
            if near and near[0] != word:
                return f"; did you mean {near[0]}?"
        return f"; allowed are {', '.join(names)}" if not self.exit_on_error else "; --help lists what is allowed"

    def parse_args(self, args: Sequence[str] | None = None, *more: Any, **options: Any) -> Namespace:  # type: ignore[override]
        """Parses; null among a class's own arguments comes here as ``None``, and is null all the same."""
        if args is not None and not self.exit_on_error:
            args = [f"{arg.removesuffix('None')}null" if arg.endswith("=None") else arg for arg in args]
        return super().parse_args(args, *more, **options)

    def _get_values(self, action: Action, arg_strings: list[str]) -> Any:
        self._seen = action, arg_strings
        return super()._get_values(action, arg_strings)

    def _parse_known_args(self, *args: Any, **options: Any) -> Any:
        """Parses the command line; the argument that it stops at is the one seen last."""
        try:
            return super()._parse_known_args(*args, **options)
        except TypeError as error:
            action, strings = self._seen
            raise _RefusedError(error, action, action.dest, " ".join(strings)) from error

    def _check_value_key(self, action: Action, value: Any, key: str, *more: Any, **options: Any) -> Any:
        """Checks an argument; null is none that jsonargparse would refuse, and no class expects it."""
        kind = getattr(action, "_typehint", None)
        if value is None and action.default is not None and kind is not None and "null" not in _allowed(kind):
            raise _RefusedError(TypeError("null"), action, key, value)
        try:
            return super()._check_value_key(action, value, key, *more, **options)
        except TypeError as error:
            raise _RefusedError(error, action, key, value) from error


_MISSING = re.compile(r"has no attribute|No module|No \w+ attribute")
"""What is said of a name that there is not, and not of a class's arguments."""
_LONGEST = 200
"""Characters of a value that a message repeats."""


def _of_arguments(error: BaseException | None) -> str:
    """What jsonargparse says of a class's arguments, among all that it says."""
    told = " ".join(word for cause in _causes(error) for word in str(cause).split())
    for what in (
        r"the following arguments are required: [\w., ]{1,200}",
        r"Key \"[\w.]{1,200}\" is required",
        r"Option '[\w.]{1,200}' is not accepted",
        r"Key '[\w.]{1,200}' is not expected",
        r"module '[\w.]{1,200}' has no attribute '\w{1,200}'",
        r"No module named '[\w.]{1,200}'",
        r"No [\w.]{1,200} attribute \w{1,200}",
    ):
        if found := re.search(what, told):
            return found[0].partition(" Given value")[0]
    return ""


def _not_found(error: BaseException | None) -> str:
    """Where modules are looked for, if one was not found; or ""."""
    missing = next((cause.name for cause in _causes(error) if isinstance(cause, ModuleNotFoundError)), None)
    return f": no module {missing!r} in the current folder, on PYTHONPATH, or installed" if missing else ""


def _option_names(parser: ArgumentParser) -> list[str]:
    """Names of all arguments, those of subcommands included."""
    names = []
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            names += [name for sub in action.choices.values() for name in _option_names(sub)]
        elif action.default != SUPPRESS:  # not --help
            names += [option.lstrip("-") for option in action.option_strings]
    return list(dict.fromkeys(names))


def _allowed(kind: Any) -> list[str]:
    """What a type allows, in words; of a base class, the package's own classes and others by their path."""
    inner = get_args(kind)
    if get_origin(kind) is Literal:
        return [str(value) for value in inner]
    if get_origin(kind) is Callable:  # a class whose other arguments come later
        return _allowed(inner[-1])
    if get_origin(kind) in (Union, UnionType):
        return list(dict.fromkeys(word for one in inner for word in _allowed(one)))
    if kind is Any:
        return ["a function"]
    if kind is nn.Module:  # an encoder
        own = sorted(cls.__name__ for cls in _concrete(AbstractEncoder) if cls.__module__.startswith("mebns_pl."))
        return [*own, "the import path of a module with forward(x, edge_index)"]
    if kind in _WORDS or not isinstance(kind, type):
        return [_WORDS.get(kind, str(kind))]
    own = sorted({cls.__name__ for cls in _concrete(kind) if cls.__module__.startswith("mebns_pl.")})
    return [*own, f"the import path of {'another' if own else 'a'} {kind.__name__}"]


def _concrete(base: type) -> Iterator[type]:
    if not inspect.isabstract(base) and not base.__name__.startswith(("Abstract", "_")):
        yield base
    cls: type
    for cls in base.__subclasses__():
        yield from _concrete(cls)
