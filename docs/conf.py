"""How Sphinx builds the documentation; `nox -s docs` runs it with warnings as errors."""

from __future__ import annotations

from importlib import metadata

project = "imapipe"
author = "The imapipe authors"
copyright = author
release = metadata.version("imapipe")
version = release

# No intersphinx: the build must not need the network.
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
add_module_names = False
# `Pool` in a docstring leads to the class, and what is no name of ours is shown as it is typed.
default_role = "py:obj"
napoleon_numpy_docstring = False
# Attributes sections become field lists: they would otherwise repeat what autodoc finds itself.
napoleon_use_ivar = True

# Only blocks marked as examples are run, not what merely looks like a prompt.
doctest_test_doctest_blocks = ""

# What stands in a sentence is typed: `--option` must not become a dash.
smartquotes = False

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = f"imapipe {release}"
