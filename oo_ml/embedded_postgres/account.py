"""The account that the server runs as. PostgreSQL refuses to run as root, so root runs it as the owner of the data.

If root owns the data, the server runs in a user namespace, where root's process has another id and no file changes its
owner. Most containers forbid user namespaces. There the account is `postgres` or `nobody`: it becomes the owner of the
data, and the server may pass through root's closed directories. A user id without an account, as containers are given,
needs the user namespace too, because initdb asks for the account's name.
"""

import os
import pwd
import shutil
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from oo_ml.embedded_postgres.binaries import call
from oo_ml.errors import EmbeddedPostgresError

# Accounts without another purpose, in order of preference.
_NAMES = ("postgres", "nobody")


@dataclass(frozen=True, slots=True)
class Account:
    """The owner of the server's files, and the way to run programs as this account."""

    uid: int
    gid: int
    prefix: tuple[str, ...] = ()
    name: str | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """Arguments of `subprocess`; none if this process has the account, or `prefix` changes it."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.name and not self.prefix else {}

    @property
    def hint(self) -> str:
        """An addition to error messages if root runs the server as this account."""
        if self.name is None:
            return ""
        return (
            f"\nPostgreSQL does not run as root, so it was run as {self.name}. Let this account reach the data "
            "directory and the programs, run as an ordinary user, or set OO_ML_DATABASE_URL"
        )

    def give(self, tree: Path) -> None:
        """Make the account the owner of `tree`."""
        os.chown(tree, self.uid, self.gid)
        for directory, names, files in os.walk(tree):
            for name in (*names, *files):
                os.chown(Path(directory, name), self.uid, self.gid, follow_symlinks=False)


# ADR 4
def choose_account(data_dir: Path, cluster: Path, bin_dir: Path) -> Account:
    """Return the account for the server of `cluster`. `data_dir` exists; `cluster` may not exist yet.

    Raises:
        EmbeddedPostgresError: no account can run PostgreSQL.
    """
    if os.geteuid() != 0:
        own = Account(os.geteuid(), os.getegid())
        # Once the data is there, no program asks for the name.
        return own if _has_name(own) or cluster.exists() else _with_name(own, bin_dir)
    place = cluster if cluster.exists() else data_dir
    owner = place.stat().st_uid
    if owner != 0:
        try:
            return _as_other_account(pwd.getpwuid(owner), data_dir, bin_dir)
        except KeyError:
            if place == cluster:
                raise EmbeddedPostgresError(
                    f"{cluster} belongs to user id {owner}, which has no account here, and PostgreSQL does not run as "
                    "root: run as an ordinary user, or set OO_ML_DATABASE_URL"
                ) from None
    stand_in = _stand_in()
    if stand_in is None:
        raise EmbeddedPostgresError(
            "PostgreSQL does not run as root, and there is no account `postgres` or `nobody` to run it as: "
            "run as an ordinary user, or set OO_ML_DATABASE_URL"
        )
    return _in_namespace(stand_in, bin_dir) or _as_other_account(stand_in, data_dir, bin_dir)


def _has_name(account: Account) -> bool:
    try:
        pwd.getpwuid(account.uid)
    except KeyError:
        return False
    return True


def _with_name(account: Account, bin_dir: Path) -> Account:
    """Return the same account in a user namespace, where its id is that of an account with a name."""
    stand_in = _stand_in()
    named = stand_in and _in_namespace(stand_in, bin_dir)
    if named is None:
        raise EmbeddedPostgresError(
            f"User id {account.uid} has no account here, and PostgreSQL's initdb needs its name: run as a user of "
            "/etc/passwd, or set OO_ML_DATABASE_URL"
        )
    return named


def _stand_in() -> pwd.struct_passwd | None:
    """Return an account without another purpose, other than root; None if there is none."""
    accounts = [entry for entry in pwd.getpwall() if entry.pw_name in _NAMES and entry.pw_uid != 0]
    return min(accounts, key=lambda entry: _NAMES.index(entry.pw_name), default=None)


def _as_other_account(entry: pwd.struct_passwd, data_dir: Path, bin_dir: Path) -> Account:
    plain = Account(entry.pw_uid, entry.pw_gid, name=entry.pw_name)
    if all(_may_enter(entry, directory) for directory in (*data_dir.parents, bin_dir, *bin_dir.parents)):
        return plain
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return plain
    # Other accounts can't enter root's home. A capability lets the server pass without opening the directory to them.
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


def _in_namespace(entry: pwd.struct_passwd, bin_dir: Path) -> Account | None:
    unshare = shutil.which("unshare")
    if unshare is None:
        return None
    prefix = (unshare, "--user", f"--map-user={entry.pw_uid}", f"--map-group={entry.pw_gid}", "--")
    # Containers may forbid user namespaces, and small versions of unshare lack the options. Only an attempt shows it.
    attempt = call([*prefix, f"{bin_dir}/postgres", "--version"])
    return Account(os.geteuid(), os.getegid(), prefix) if attempt.returncode == 0 else None
