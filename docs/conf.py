"""Settings of the documentation; `make docs` builds it, warnings being errors."""

from importlib.metadata import version as installed_version

project = "fairtrain"
author = "The fairtrain developers"
copyright = author
version = release = installed_version("fairtrain")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
exclude_patterns = ["_build"]

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_mock_imports = ["lightning", "mlflow", "onnx", "skorch", "transformers"]
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings state types, and in plainer words
autoclass_content = "class"
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"fairtrain {release}"

suppress_warnings = [
    "ref.python",  # `rates` is an attribute of every constraint
    "ref.ref",  # labels of scikit-learn's own documentation, in methods it adds to estimators
    "ref.term",
]
