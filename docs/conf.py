"""Sphinx: `python -m sphinx -W --keep-going -b html docs docs/_build` makes the API reference."""

import importlib.metadata
import re

project = "daskglm_rep"
author = "daskglm_rep developers"
release = importlib.metadata.version("daskglm_rep")
extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.mathjax", "numpydoc"]
autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False
templates_path = ["_templates"]
exclude_patterns = ["_build"]
html_theme = "alabaster"
html_theme_options = {"description": "Generalized linear models on chunked data", "page_width": "1100px",
                      "sidebar_width": "240px", "fixed_sidebar": True}
html_show_sourcelink = False
default_role = "code"


def plain_bars(app, what, name, obj, options, lines):
    """|t| is an absolute value in our docstrings, not a substitution."""
    lines[:] = [line if "`" in line or ">>>" in line else re.sub(r"\|", r"\\|", line) for line in lines]


def setup(app):
    app.connect("autodoc-process-docstring", plain_bars)
