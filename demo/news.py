"""Readers of news beside the users of tips: the example in examples/news, by its own policy, on the demo's database."""

import random
import sys
from pathlib import Path
from typing import Final

import httpx
from rich.console import Console

from demo.processes import Child, find_free_port, make_loopback_environment, running
from examples.news import simulate as news

# Few, because all their decisions are of today, and the page shows them beside the tips.
_READERS: Final = 8
_DAYS: Final = 45
_PATIENCE_SECONDS: Final = 60.0
READER_IDS: Final = [reader.user_id for reader in news.make_readers(random.Random(0), _READERS)]  # noqa: S311


def live(data_dir: Path, database_url: str, seed: int, console: Console) -> None:
    """Publish the policy, live the days of the readers through the HTTP calls, and print what they opened.

    Raises:
        DemoError: the service did not start.
    """
    port = find_free_port()
    address = f"http://127.0.0.1:{port}"
    service = Child(
        name="The service",
        command=[sys.executable, "-m", "oo_ml", "serve", "--port", str(port)],
        environment=make_loopback_environment(OO_ML_DATABASE_URL=database_url, OO_ML_DATA_DIR=str(data_dir)),
        ready=f"{address}/readyz",
        log=data_dir / "service.log",
    )
    rng = random.Random(seed)  # noqa: S311 - simulated lives, not secrets
    with running(service), httpx.Client(base_url=address, timeout=_PATIENCE_SECONDS, trust_env=False) as client:
        news.publish(client)
        shares = news.simulate(client, news.make_readers(rng, _READERS), _DAYS, rng)
    third = _DAYS // 3
    opened, by_chance = (sum(column) / third for column in zip(*shares[-third:], strict=True))
    console.print(
        f"Another policy, {news.POLICY}, chose among {news.ARTICLES} articles for {_READERS} readers. In their last"
        f" {third} days they opened {opened:.0%}; of articles drawn at random it would have been {by_chance:.0%}.",
        highlight=False,
    )
