"""As whom the server runs. PostgreSQL refuses root, so root runs it as somebody else: whoever owns the data.

Where that is root itself: in a user namespace, in which root's own process bears another name and no directory has to
change hands; where the system forbids those, as most containers do, as `postgres` or `nobody`, to whom the data is then
given, with the right to pass through root's closed directories.
"""

import os
import pwd
import shutil
import stat
from dataclasses import dataclass, replace
from pathlib import Path

from oo_ml.embedded_postgres.binaries import call
from oo_ml.errors import EmbeddedPostgresError

# Accounts that have no other job, the better one first.
_NAMES = ("postgres", "nobody")


@dataclass(frozen=True, slots=True)
class Account:
    """Who owns the server's files, and what it takes to run its programs as them."""

    uid: int
    gid: int
    prefix: tuple[str, ...] = ()
    name: str | None = None

    @property
    def user(self) -> int | None:
        """What `subprocess` calls user; None: whoever runs this process, or the prefix changes it."""
        return self.uid if self.name and not self.prefix else None

    @property
    def group(self) -> int | None:
        """What `subprocess` calls group."""
        return self.gid if self.name and not self.prefix else None

    @property
    def extra_groups(self) -> list[int] | None:
        """What `subprocess` calls extra_groups: none of root's."""
        return [] if self.name and not self.prefix else None

    @property
    def hint(self) -> str:
        """What to say beside a failure, if root runs the server as them."""
        if self.name is None:
            return ""
        return (
            f"\nPostgreSQL does not run as root, so it was run as {self.name}, who must be able to reach the data "
            "directory and the programs; or run as an ordinary user, or set OO_ML_DATABASE_URL"
        )

    def give(self, tree: Path) -> None:
        """Make `tree` theirs."""
        os.chown(tree, self.uid, self.gid)
        for directory, names, files in os.walk(tree):
            for name in (*names, *files):
                os.chown(Path(directory, name), self.uid, self.gid, follow_symlinks=False)


# ADR 4
def for_data(data_dir: Path, cluster: Path, bin_dir: Path) -> Account:
    """The account that runs the server of `cluster`, which need not exist yet, in `data_dir`, which does."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid())
    place = cluster if cluster.exists() else data_dir
    owner = place.stat().st_uid
    if owner != 0:
        try:
            return _other(pwd.getpwuid(owner), data_dir, bin_dir)
        except KeyError:
            if place == cluster:
                raise EmbeddedPostgresError(
                    f"{cluster} belongs to user id {owner}, which has no account here, and PostgreSQL does not run as "
                    "root: run as an ordinary user, or set OO_ML_DATABASE_URL"
                ) from None
    accounts = [entry for entry in pwd.getpwall() if entry.pw_name in _NAMES and entry.pw_uid != 0]
    if not accounts:
        raise EmbeddedPostgresError(
            "PostgreSQL does not run as root, and there is no account `postgres` or `nobody` to run it as: "
            "run as an ordinary user, or set OO_ML_DATABASE_URL"
        )
    stand_in = min(accounts, key=lambda entry: _NAMES.index(entry.pw_name))
    return _namespace(stand_in, bin_dir) or _other(stand_in, data_dir, bin_dir)


def _other(entry: pwd.struct_passwd, data_dir: Path, bin_dir: Path) -> Account:
    plain = Account(entry.pw_uid, entry.pw_gid, name=entry.pw_name)
    if all(_may_enter(entry, directory) for directory in (*data_dir.parents, bin_dir, *bin_dir.parents)):
        return plain
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return plain
    # Root's home is closed to everybody else. Opening it would let everybody in; this lets in the server alone.
    names = (f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups")
    for capability in ("+dac_read_search", "+dac_override"):
        prefix = (setpriv, *names, f"--inh-caps={capability}", f"--ambient-caps={capability}", "--")
        if call([*prefix, f"{bin_dir}/postgres", "--version"]).returncode == 0:
            return replace(plain, prefix=prefix)
    return plain


def _may_enter(entry: pwd.struct_passwd, directory: Path) -> bool:
    status = directory.stat()
    if status.st_uid == entry.pw_uid:
        return bool(status.st_mode & stat.S_IXUSR)
    return bool(status.st_mode & (stat.S_IXGRP if status.st_gid == entry.pw_gid else stat.S_IXOTH))


def _namespace(entry: pwd.struct_passwd, bin_dir: Path) -> Account | None:
    unshare = shutil.which("unshare")
    if unshare is None:
        return None
    prefix = (unshare, "--user", f"--map-user={entry.pw_uid}", f"--map-group={entry.pw_gid}", "--")
    # Containers may forbid this, and small versions of unshare lack the options: trying is the only way to know.
    attempt = call([*prefix, f"{bin_dir}/postgres", "--version"])
    return Account(os.geteuid(), os.getegid(), prefix) if attempt.returncode == 0 else None
