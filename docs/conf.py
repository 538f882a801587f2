"""Settings of the site of docs/: Sphinx, MyST and the furo theme. Its pages load nothing from other hosts."""

project = "oO ML"
html_title = "oO ML"
root_doc = "index"
extensions = ["myst_parser"]
myst_heading_anchors = 4
nitpicky = True
html_theme = "furo"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
