"""How Sphinx builds the documentation: `make docs`."""

from nxsched import __version__

project = "nxsched"
author = "The nxsched developers"
copyright = "The nxsched developers"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"nxsched {__version__}"

# Anchors of headings, as on code hosting sites: pages link to `rules.md#rule-11-busy-time`.
myst_heading_anchors = 3
# `console` and `pycon` blocks are shown as they were run, prompts and all.
highlight_language = "python"

# Docstrings put code between single backticks.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_display_short_literal_types = True
python_maximum_signature_line_length = 88
