"""How the pages of this folder become a site: ``make docs``.

Nothing is fetched, and nothing of the package is imported: pages are text, and those of the reference
were made of the schema beforehand (``reference.py``).
"""

project = "sparse_rl"
author = "the authors of sparse_rl"
extensions = ["myst_parser"]
root_doc = "index"
exclude_patterns = ["results"]

html_theme = "furo"
html_title = "sparse_rl"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_show_sphinx = False

myst_heading_anchors = 4
