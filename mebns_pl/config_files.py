"""Configurations: those that come with the package by short names, as ``sampler/dns``; options by names with dots."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "configs"
"""They are those of the repository, to which a link leads here, and are installed with the package."""
_SUFFIXES = (".yaml", ".yml")


def find_config_file(name: str | Path, folders: Sequence[Path] = (Path(),)) -> Path | None:
    """The configuration file of a name, or None.

    Args:
        name: a path, or below ``configs/`` a path, with or without ``.yaml`` and with or without ``configs/`` itself.
        folders: where a path is looked for before the package's own are.

    Example:
        >>> find_config_file("sampler/dns") == FOLDER / "sampler" / "dns.yaml"
        True
    """
    path = Path(name)
    if not path.name:  # of "" and "."
        return None
    file = path if path.suffix in _SUFFIXES else path.with_name(f"{path.name}.yaml")
    own = file.relative_to(FOLDER.name) if file.parts[:1] == (FOLDER.name,) else file
    here = [folder / one for folder in folders for one in (path, file)]
    return next((place for place in (*here, FOLDER / own) if place.is_file()), None)


def near_config_name(name: str | Path) -> str:
    """A hint at the configuration that a name that there is not may mean, or ""."""
    short = str(name).removeprefix(f"{FOLDER.name}/")
    names = [str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.glob("**/*.yaml")]
    near = difflib.get_close_matches(short.removesuffix(".yaml"), names, 1, 0.7)
    return f"; did you mean {near[0]}?" if near else ""


def dotted(options: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested options, by names with dots; an empty mapping is a value.

    Example:
        >>> dict(dotted({"data": {"graph": "cora", "split": {}}, "seed": 1}))
        {'data.graph': 'cora', 'data.split': {}, 'seed': 1}
    """
    if isinstance(options, Mapping) and options:
        for name, value in options.items():
            yield from dotted(value, f"{above}.{name}" if above else str(name))
    else:
        yield above, options
