"""The daily tables against sums over the decisions, with late, changed and retracted rewards."""

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from oo_ml.domain.policies import EPSILON_GREEDY
from oo_ml.services.decisions.decide import DecideCommand
from oo_ml.services.upkeep import daily_sums
from oo_ml.services.upkeep.daily_sums import CountCommand, Days
from oo_ml.services.users.erase import erase
from oo_ml.storage import generations
from tests.candidates import build_candidate, build_context, build_task
from tests.conftest import SERVICE, Serve
from tests.gates import wait_until_blocked
from tests.policies import builtin, decide_by
from tests.pooled_users import fit, live
from tests.services import scenario
from tests.services.upkeep.daily_sums.counting import NOW, count, count_all, read_uncounted
from tests.services.upkeep.daily_sums.from_scratch import assert_right, read_rows
from tests.sessions import open_session, writing
from tests.simulated_users import EXPLORING, SimulatedUsers
from tests.waiting import until


@pytest.mark.parametrize("seed", range(3))
def test_daily_sums(db: Engine, database_url: str, seed: int) -> None:
    """The sums equal those over the decisions at any time, counted in steps of any size or not counted yet."""
    simulated = SimulatedUsers(db, seed)
    for limit in (1000, 3, 1000, 1):
        simulated.act(30)
        assert_right(db)
        count_all(db, database_url, limit=limit)
        assert_right(db)
        assert_right(db, "oo_ml.daily_")


def test_every_kind_of_entry(db: Engine, database_url: str) -> None:
    """Two epochs, an import and late corrections are counted once, and never again."""
    scenario.create_ada_and_ben(db)
    assert_right(db)
    count_all(db, database_url)
    assert_right(db, "oo_ml.daily_")
    assert count(database_url) == Days(0)
    assert_right(db, "oo_ml.daily_")


def test_erased_user(db: Engine, database_url: str) -> None:
    """An erased user's rows leave the sums, counted or not."""
    simulated = SimulatedUsers(db, 7)
    simulated.act(60)
    count_all(db, database_url)
    simulated.act(30)
    with writing(db) as connection:
        erase(connection, ["ada", "unknown"])
    assert_right(db)
    count_all(db, database_url)
    assert_right(db, "oo_ml.daily_")


def test_first_decisions(db: Engine, database_url: str) -> None:
    """The sums over users' first decisions by prior version follow corrections and an erased user."""
    simulated = SimulatedUsers(db, 8)
    live(simulated, users=3, decisions=12)
    count_all(db, database_url, limit=7)
    live(simulated, users=3, decisions=12, prior=fit(db, None, simulated.now))
    made = list(simulated.decisions)
    simulated.correct(made[0], -1.0)
    simulated.correct(made[1], None)
    assert_right(db)
    assert len({row[2] for row in read_rows(db, "first_decisions", "rollup.first_decisions")}) == 2
    count_all(db, database_url)
    with writing(db) as connection:
        erase(connection, ["user 0"])
    assert_right(db, "oo_ml.daily_")


# Makes the index forget the first rows, as if they had come after its last summary.
_FORGET = text("SELECT brin_desummarize_range('oo_ml.ix_reward_ledger_position', 0)")
_SUMMARIZE = text("SELECT oo_ml.summarize_positions()")


@pytest.fixture
def rows_not_summarized(db: Engine, admin: Engine) -> None:
    """Rows of ada and ben that the index on position of the ledger does not know."""
    scenario.create_ada_and_ben(db)
    with writing(admin) as owner:
        owner.execute(_FORGET)


@pytest.mark.usefixtures("rows_not_summarized")
def test_indexes_on_position(db: Engine, service_url: str) -> None:
    """Counting adds new rows to the indexes on position, without autovacuum."""
    count(service_url)
    with writing(db) as connection:
        assert connection.scalar(_SUMMARIZE) == 0


@pytest.mark.usefixtures("rows_not_summarized")
def test_indexes_on_position_of_a_table_in_vacuum(db: Engine, admin: Engine, service_url: str) -> None:
    """Counting does not wait for a table that VACUUM works on, and adds its rows the next time."""
    with writing(admin) as vacuum:
        vacuum.execute(text("LOCK TABLE oo_ml.reward_ledger IN SHARE UPDATE EXCLUSIVE MODE"))
        count(service_url)
    with writing(db) as connection:
        assert connection.scalar(_SUMMARIZE) == 1


def test_indexes_on_position_without_the_right(db: Engine, admin: Engine, service_url: str) -> None:
    """A role without the right to the function counts all the same."""
    scenario.create_ada_and_ben(db)
    with writing(admin) as owner:
        owner.execute(text(f"REVOKE EXECUTE ON FUNCTION oo_ml.summarize_positions FROM {SERVICE}"))
    count_all(db, service_url)
    assert_right(db, "oo_ml.daily_")


def test_open_transaction(db: Engine, database_url: str) -> None:
    """A row with a lower position that commits later is counted, and the rows after it wait for it."""
    simulated = SimulatedUsers(db, 1)
    simulated.decide(policy=EPSILON_GREEDY)
    count_all(db, database_url)
    with open_session(db) as slow, slow.begin():
        tip = [build_candidate("t", "s", build_task(is_overdue=True, task_age_days=1.0, priority=2))]
        command = DecideCommand("slow", builtin(EPSILON_GREEDY), UUID(int=1), simulated.now, build_context(9, 2), tip)
        decide_by(EXPLORING, slow, [command])
        generations.insert_generation(slow, simulated.draw_generation("slow"), [])
        simulated.act(30)
        count(database_url)
        assert_right(db)
        assert read_uncounted(db) > 5
    assert_right(db)
    count_all(db, database_url)
    assert_right(db, "oo_ml.daily_")


def test_concurrent_steps(db: Engine, database_url: str) -> None:
    """While a step runs, a second one does nothing and reports it; an erasure waits."""
    SimulatedUsers(db, 1).act(20)

    def erase_ada() -> None:
        with writing(db) as connection:
            erase(connection, ["ada"])

    with ThreadPoolExecutor(1) as elsewhere:
        with writing(db) as first:
            daily_sums.count(first, [CountCommand(NOW)])
            assert count(database_url) == Days(0, is_busy=True)
            erasing = elsewhere.submit(erase_ada)
            wait_until_blocked(db, 1)
        erasing.result()
    count_all(db, database_url)
    assert_right(db, "oo_ml.daily_")


def test_restored_database(db: Engine, database_url: str) -> None:
    """Counting continues if the noted transaction id was assigned by another server."""
    simulated = SimulatedUsers(db, 3)
    simulated.act(20)
    count_all(db, database_url)
    simulated.act(20)
    with writing(db) as connection:
        connection.execute(text("UPDATE oo_ml.counted SET next_xid = 1 << 40"))
    count_all(db, database_url)
    count_all(db, database_url)
    assert_right(db, "oo_ml.daily_")


def test_missing_progress(db: Engine, database_url: str) -> None:
    """If the progress of a source is missing, the daily tables are built again from the start."""
    SimulatedUsers(db, 4).act(30)
    count_all(db, database_url)
    with writing(db) as connection:
        connection.execute(text("UPDATE oo_ml.daily_reactions SET decisions = 7"))
        connection.execute(text("DELETE FROM oo_ml.counted WHERE source = 'reward_ledger'"))
    count_all(db, database_url)
    assert_right(db, "oo_ml.daily_")


def test_rows_without_a_position(db: Engine, database_url: str) -> None:
    """Rows from before positions existed have position 0 and are counted."""
    SimulatedUsers(db, 5).act(40)
    with writing(db) as connection:
        connection.execute(text("UPDATE oo_ml.reward_ledger SET position = 0"))
        connection.execute(text("UPDATE oo_ml.generations SET position = 0"))
    assert_right(db)
    count_all(db, database_url, limit=5)
    assert_right(db, "oo_ml.daily_")


def test_counting_in_a_service(db: Engine, serve: Serve) -> None:
    """A running service counts without a command."""
    SimulatedUsers(db, 6).act(20)
    serve(upkeep_interval=0.1)
    until(lambda: bool(read_rows(db, "reactions", "oo_ml.daily_reactions")))
    assert_right(db)
