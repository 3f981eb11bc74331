"""How Sphinx builds the documentation: `make docs`."""

import re

from nxsched import __version__

project = "nxsched"
author = "The nxsched developers"
copyright = "The nxsched developers"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_enable_extensions = ["deflist"]
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

_DEFAULTS = {"datetime.timedelta(0)": "timedelta(0)", "<factory>": "{}"}


def _readable_defaults(_app, _what, _name, _obj, _options, signature, returns):  # noqa: ANN001, ANN202
    """Show defaults as one would write them; Sphinx cannot even read those that a factory makes."""
    if signature:
        signature = re.sub(r"BookingWindow\([^)]*\)", "BookingWindow()", signature)
        for made, written in _DEFAULTS.items():
            signature = signature.replace(made, written)
    return signature, returns


def setup(app):  # noqa: ANN001, ANN201, D103
    app.connect("autodoc-process-signature", _readable_defaults)
