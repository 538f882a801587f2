"""The machine of the measurement: numbers mean nothing without it."""

import os
import platform
import re
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Final

from bench import load, pgbench
from bench.database import Database, one

_SHOWN: Final = ("server_version", "fsync", "synchronous_commit", "shared_buffers", "max_wal_size")


def describe(database: Database, directory: Path, now: datetime) -> list[tuple[str, str]]:
    """Return names and values."""
    with database.connect() as connection:
        settings = [f"{name} {one(connection, f'SHOW {name}')}" for name in _SHOWN]
    return [
        ("date, commit", f"{now:%Y-%m-%d %H:%M} UTC, {_commit()}"),
        ("processor", f"{_processor()}, {len(os.sched_getaffinity(0))} cores"),
        ("memory", f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB"),
        ("file system", _file_system(directory.resolve())),
        ("kernel", f"{platform.system()} {platform.release()}"),
        ("Python", platform.python_version()),
        ("PostgreSQL", ", ".join(settings).removeprefix("server_version ")),
        ("load", f"{load.version()}; {pgbench.version()}, prepared statements"),
        ("settings", ", ".join(_settings()) or "defaults"),
    ]


def _processor() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _file_system(directory: Path) -> str:
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    around = [(mount[1], mount[2]) for mount in mounts if directory.is_relative_to(mount[1])]
    return max(around, key=lambda mount: len(mount[0]))[1]


def _commit() -> str:
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"],  # noqa: S607 - whichever git there is
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or "no checkout"


def _settings() -> list[str]:
    return sorted(
        f"{name}={value}"
        for name, value in os.environ.items()
        if name.startswith("OO_ML_") and name != "OO_ML_DATABASE_URL"
    )
