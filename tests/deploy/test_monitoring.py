"""deploy/monitoring/ and docs/runbook.md agree with each other, with the metrics and with the errors of the service."""

import json
import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest
import yaml  # type: ignore[import-untyped]

from oo_ml.api.error_statuses import and_subclasses
from oo_ml.errors import OoMlError
from tests.deploy.metrics import find_unknown

ROOT: Final = Path(__file__).parents[2]
MONITORING: Final = ROOT / "deploy/monitoring"
RUNBOOK: Final = (ROOT / "docs/runbook.md").read_text("utf-8")

RULES: Final[list[dict[str, Any]]] = [
    rule
    for group in yaml.safe_load((MONITORING / "alerts.yaml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
]
BOARD: Final[dict[str, Any]] = json.loads((MONITORING / "grafana.json").read_text("utf-8"))
PANELS: Final = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
QUERIES: Final = [
    (f"{panel['title']} {query['refId']}", query["expr"]) for panel in PANELS for query in panel["targets"]
]
# Grafana's names, as a query that is sent to Prometheus has them.
FILLED_IN: Final = {"$__rate_interval": "5m", "$job": "oo-ml", "$instance": ".*"}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_alerts(rule: dict[str, Any]) -> None:
    """An alert uses metrics that exist, says what happened, and leads to its entry in the runbook."""
    name = rule["alert"]
    assert find_unknown(rule["expr"]) == set()
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"


def test_unit_tests_of_alerts() -> None:
    """For each alert the unit tests have a moment at which it fires and one at which it does not."""
    tests = yaml.safe_load((MONITORING / "alerts.test.yaml").read_text("utf-8"))["tests"]
    moments = [moment for test in tests for moment in test["alert_rule_test"]]
    names = {rule["alert"] for rule in RULES}
    assert {moment["alertname"] for moment in moments if moment.get("exp_alerts")} == names
    assert {moment["alertname"] for moment in moments if not moment.get("exp_alerts")} == names


@pytest.mark.parametrize(("query", "expression"), QUERIES, ids=[query for query, _ in QUERIES])
def test_queries_of_the_board(query: str, expression: str) -> None:
    """A query uses metrics that exist, and the job and instances that are chosen above the board."""
    assert find_unknown(expression) == set(), query
    for series in re.findall(r"oo_ml_\w+\S*", expression):
        assert series.partition("{")[2].startswith('job="$job",'), query


def test_panels_of_the_board() -> None:
    """Panels have ids of their own, do not overlap, and ask the data source that is chosen above the board."""
    ids = Counter(panel["id"] for panel in BOARD["panels"])
    assert max(ids.values()) == 1
    cells = Counter(cell for panel in BOARD["panels"] for cell in _cover(panel["gridPos"]))
    assert max(cells.values()) == 1
    assert {variable["name"] for variable in BOARD["templating"]["list"]} == {"datasource", "job", "instance"}
    for panel in PANELS:
        assert {query["datasource"]["uid"] for query in panel["targets"]} == {"${datasource}"}, panel["title"]


def test_runbook() -> None:
    """Each alert and each error code has an entry, no entry is left of one that is gone, and each says what to do."""
    _, alerts, codes = re.split(r"^## (?:Alerts|Error codes)$", RUNBOOK, flags=re.MULTILINE)
    assert _entries(alerts) == [rule["alert"] for rule in RULES]
    # Another test may have imported the errors of the demo.
    known = {error.code for error in and_subclasses(OoMlError) if error.__module__ == OoMlError.__module__}
    assert sorted(_entries(codes)) == sorted(known - {OoMlError.code})
    for entry in re.split(r"^### ", alerts + codes, flags=re.MULTILINE):
        assert entry.count("**Do:**") == (1 if "**Look at:**" in entry else 0), entry


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [("check", "rules", "alerts.yaml"), ("test", "rules", "alerts.test.yaml")], ids=" ".join
)
def test_alerts_by_promtool(words: tuple[str, ...]) -> None:
    """Prometheus accepts the rules, and each alert fires when it should."""
    _promtool(*words)


@pytest.mark.slow
def test_queries_by_promtool(tmp_path: Path) -> None:
    """Prometheus accepts each query of the board."""
    rules = []
    for number, (_, expression) in enumerate(QUERIES):
        for name, value in FILLED_IN.items():
            expression = expression.replace(name, value)  # noqa: PLW2901 - filled in step by step
        assert "$" not in expression
        rules.append({"record": f"query:{number}", "expr": expression})
    # JSON is YAML.
    file = tmp_path / "rules.yaml"
    file.write_text(json.dumps({"groups": [{"name": "board", "rules": rules}]}), "utf-8")
    assert f"{len(QUERIES)} rules found" in _promtool("check", "rules", str(file))


def _promtool(*words: str) -> str:
    """Run promtool in deploy/monitoring/. Without it the test is skipped; where CI is set it fails."""
    if shutil.which("promtool") is None:
        missing = "needs promtool: apt-get install prometheus"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    done = subprocess.run(  # noqa: S603 - Debian's program
        ["promtool", *words],  # noqa: S607
        cwd=MONITORING,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _entries(section: str) -> list[str]:
    return re.findall(r"^### `?(\w+)`?$", section, re.MULTILINE)


def _cover(grid: dict[str, int]) -> list[tuple[int, int]]:
    """Return the cells that a panel covers."""
    return [(x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])]
