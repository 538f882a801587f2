"""`oo-ml version`, and `oo-ml --version`."""

from importlib.metadata import version

import typer


def print_version() -> None:
    """Print the version.

    `oo-ml --version` does the same.
    """
    typer.echo(version("oo-ml"))
