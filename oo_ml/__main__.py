"""`python -m oo_ml`: the same as `oo-ml`."""

from oo_ml.cli import main

main()
