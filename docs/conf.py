"""Sphinx: the pages of this folder and the API from the docstrings, as one site (make docs)."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(Path(__file__).resolve().parent))
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "_site"]

project = "mebns_pl"
author = copyright = "The mebns_pl authors"
html_theme = "furo"
html_title = "mebns_pl"
html_show_sphinx = html_show_sourcelink = False
exclude_patterns = ["_build"]

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
html_math_renderer = "mathml"  # nothing is fetched from elsewhere to show a formula
html_static_path = ["_static"]

autodoc_typehints = "signature"
autodoc_typehints_format = "short"
add_module_names = False
autodoc_member_order = "bysource"
autodoc_default_options = {
    "members": True,
    "show-inheritance": True,
    "ignore-module-all": True,
    "exclude-members": "training, forward",
}
autodoc_class_signature = "mixed"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = [("Cost", "notes_style"), ("Raises (in ``part``)", "params_style")]
