"""Sphinx builds the site from this folder: `python -m sphinx -W --keep-going -n docs build/site`.

The build needs the package, installed, and `pip install ".[docs]"`; it needs no network. Pages with
`{code-cell}` blocks are run, and an error in one ends the build.
"""

import os
import pathlib
import sys
import tomllib

sys.path.insert(0, str(pathlib.Path(__file__).parent / "_ext"))

import fastrnn  # noqa: E402

# Other systems have one thread in the pages' programs, fastrnn has those that it has without this.
os.environ.setdefault("FASTRNN_NUM_THREADS", str(fastrnn.get_num_threads()))
os.environ.setdefault("OMP_NUM_THREADS", "1")

project = "fastrnn"
author = "the developers of fastrnn"
version = release = fastrnn.__version__
language = "en"

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "mathml",
]
exclude_patterns = ["_ext", "_static", "_templates", "pictures"]
templates_path = ["_templates"]
nitpicky = True
html_math_renderer = "mathml"

# ---- pages ----
myst_enable_extensions = ["amsmath", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
nb_execution_mode = "cache"
nb_execution_cache_path = str(pathlib.Path(__file__).parents[1] / "build" / "pages")
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_merge_streams = True
nb_render_text_lexer = "text"
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"

# ---- API ----
autosummary_generate = True
autodoc_typehints = "none"  # the docstrings say types
autodoc_default_options = {
    "members": True,
    "special-members": "__call__",
    # of the classes below these, which other packages and Python wrote, nothing is listed
    "inherited-members": "Module,MutableMapping,Mapping,Generic,tuple,dict,object",
}
autosummary_ignore_module_all = False  # the names of a module are those of its __all__
autosummary_imported_members = True
# What the page of a module says first, in reStructuredText: module -> text.
with open(pathlib.Path(__file__).parent / "api" / "introductions.toml", "rb") as file:
    autosummary_context = {"introductions": tomllib.load(file)}
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
default_role = "code"

# ---- look ----
html_theme = "pydata_sphinx_theme"
html_title = f"fastrnn {version}"
html_static_path = ["_static"]
html_css_files = ["fastrnn.css"]
html_copy_source = False
html_show_sourcelink = False
# Pages without a section of their own have no sidebar on the left.
ALONE = (
    "start which-call coming-from numerics free-threads equations internals wheels versions "
    "contributing changelog security citing"
)
html_sidebars = {name: [] for name in ALONE.split()}
html_theme_options = {
    "logo": {"text": "fastrnn"},
    "show_prev_next": True,
    "navigation_depth": 2,
    "show_toc_level": 2,
    "header_links_before_dropdown": 6,
    "navbar_align": "left",
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
copyright = "the developers of fastrnn. Licence: MIT"
