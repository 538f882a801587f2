"""`oo-ml db`: migrations."""

from pathlib import Path
from typing import Any

import psycopg

from oo_ml.storage.schema import revisions
from tests.commands import Done, oo_ml

HEAD = revisions.head()
AT_HEAD = f"{HEAD} (this release: {HEAD})\n"
EMPTY = f"empty (this release: {HEAD})\n"


def test_upgrade_and_check(empty_database_url: str) -> None:
    """Each command prints the revision of the database; an upgrade at head changes nothing."""
    assert db("current", empty_database_url) == Done(0, EMPTY, "")
    assert db("check", empty_database_url) == Done(1, "", "error: Target database is not up to date.\n")
    assert db("upgrade", empty_database_url).out == AT_HEAD
    assert db("upgrade", empty_database_url) == Done(0, AT_HEAD, "")


def test_check_of_a_changed_table(postgresql: psycopg.Connection[Any], database_url: str) -> None:
    """`check` exits with 0 while the tables are as declared, and with 1 and the difference when they are not."""
    done = db("check", database_url)
    assert (done.code, done.out.splitlines()[-1]) == (
        0,
        "Tables, columns, indexes and comments are as this release declares them",
    )
    postgresql.execute("ALTER TABLE oo_ml.tips DROP COLUMN rationale")
    postgresql.commit()
    done = db("check", database_url)
    assert done.code == 1
    assert done.err.startswith("error: New upgrade operations detected: ")
    assert "'rationale'" in done.err


def test_confirmation_of_a_downgrade(postgresql: psycopg.Connection[Any], database_url: str) -> None:
    """A downgrade asks first and without an answer changes nothing; a yes, or --yes, carries it out."""
    question = "Downgrade to base? Data that the older schema has no place for is lost [y/N]: "
    assert db("downgrade", database_url, "base") == Done(1, question, "Aborted!\n")
    postgresql.execute("SELECT FROM oo_ml.policy_state")
    postgresql.rollback()
    assert db("downgrade", database_url, "base", stdin="y\n").out == question + EMPTY
    assert db("downgrade", database_url, "base", "--yes") == Done(0, EMPTY, "")


def test_relative_revisions(database_url: str) -> None:
    """-1 and +1 are revisions, not options."""
    assert db("downgrade", database_url, "-1", "--yes").code == 0
    assert db("upgrade", database_url, "+1") == Done(0, f"{HEAD} (this release: {HEAD})\n", "")


def test_sql() -> None:
    """`sql` prints the script to standard output, and nothing else, without a database."""
    done = oo_ml("db", "sql")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("SET lock_timeout = '5000ms';\n\nSET client_encoding = 'UTF8';\n\n")
    assert done.out.rstrip().endswith("COMMIT;")
    assert "CREATE TABLE oo_ml.policy_state" in done.out


def test_unknown_revision(empty_database_url: str) -> None:
    """An unknown revision is one line, without a traceback."""
    assert db("upgrade", empty_database_url, "nonsense") == Done(
        1, "", "error: Can't locate revision identified by 'nonsense'\n"
    )


def test_unreachable_server(tmp_path: Path) -> None:
    """An unreachable server is one line, without the password."""
    for words in (("db", "upgrade"), ("prompts", "list")):
        done = oo_ml(*words, OO_ML_DATABASE_URL=f"postgresql://u:sesame@/d?host={tmp_path}")
        missing = f"No such file or directory ({tmp_path}/.s.PGSQL.5432)"
        assert done == Done(1, "", f"error: The database can't be reached: {missing}\n")


def db(command: str, url: str, *words: str, stdin: str = "") -> Done:
    """Run `oo-ml db` on a database."""
    return oo_ml("db", command, *words, stdin=stdin, OO_ML_DATABASE_URL=url)
