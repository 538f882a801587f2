"""The data of the server: created completely or not at all, and refused if the programs have another version."""

import os
import shutil
from pathlib import Path

from oo_ml.embedded_postgres.binaries import read_version
from oo_ml.embedded_postgres.programs import Programs, run
from oo_ml.errors import EmbeddedPostgresError

ROLE = DATABASE = "oo_ml"

# Run in single-user mode, one statement a line. CREATEDB: the test suite clones a database for each test.
_FIRST_STATEMENTS = f"""\
CREATE ROLE {ROLE} LOGIN CREATEDB
CREATE DATABASE {DATABASE} OWNER {ROLE}
"""


def ensure(cluster: Path, programs: Programs, *, fsync: bool, deadline: float, lock: int) -> None:
    """Create `cluster` if it is missing. The caller holds the start lock, open as file `lock`."""
    if not (cluster / "PG_VERSION").exists():
        _create(cluster, programs, fsync=fsync, deadline=deadline, lock=lock)
        return
    if cluster.stat().st_uid != programs.account.uid:
        # Root owns the data: it was created when user namespaces were allowed.
        programs.account.give(cluster)
    written_by = (cluster / "PG_VERSION").read_text().strip()
    ours = read_version(programs.bin_dir)
    if written_by != ours:
        raise EmbeddedPostgresError(
            f"The data in {cluster} was written by PostgreSQL {written_by}, and the programs in {programs.bin_dir} are "
            f"PostgreSQL {ours}: name the directory of version {written_by}'s in OO_ML_POSTGRES_BIN_DIR, "
            "move the data with pg_dump or pg_upgrade, or set another OO_ML_DATA_DIR"
        )


def _create(cluster: Path, programs: Programs, *, fsync: bool, deadline: float, lock: int) -> None:
    unfinished = cluster.with_name(f"{cluster.name}.unfinished")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    unfinished.mkdir(0o700)
    programs.account.give(unfinished)
    directory = f"--pgdata={unfinished}"
    # Only accounts that can enter the socket's directory can connect, so local connections are trusted.
    options = ["--username=postgres", "--auth-local=trust", "--auth-host=reject", "--no-instructions"]
    options += ["--encoding=UTF8", "--locale=C", "--data-checksums", *([] if fsync else ["--no-sync"])]
    # The programs inherit the start lock, so after a kill -9 of this process no other process deletes their files.
    run(programs, ["initdb", directory, *options], deadline=deadline, inherited=lock)
    single = ["postgres", "--single", "-D", f"{unfinished}", *("-c", "exit_on_error=on"), *("-c", f"fsync={fsync}")]
    run(programs, [*single, "postgres"], statements=_FIRST_STATEMENTS, deadline=deadline, inherited=lock)
    unfinished.rename(cluster)
    if fsync:
        _sync(cluster.parent)


def _sync(directory: Path) -> None:
    # A rename is durable only after an fsync of its directory.
    file = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
