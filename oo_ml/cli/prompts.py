"""`oo-ml prompts`: the prompt registry."""

import json
import math
from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Final

import typer

from oo_ml.cli.database import open_database
from oo_ml.cli.results import AsJson, Column, print_json, print_records
from oo_ml.domain.identifiers import is_identifier
from oo_ml.errors import InvalidRequestError, InvalidTemplateError
from oo_ml.setting_choices import ResponseFormat

app = typer.Typer(
    help="List, show, publish, weight and retire prompt versions; prices of models. A published version never changes.",
    no_args_is_help=True,
    add_completion=False,
)

# The longest template has 16,000 characters of four bytes at most.
_MAX_FILE_BYTES = 65_536
_PARAMETERS: Final = ("model", "temperature", "max_tokens", "response_format", "stop")
_COLUMNS: Final = (
    Column("version", lambda prompt: prompt["version"]),
    Column("status", lambda prompt: prompt["status"]),
    Column("weight", lambda prompt: f"{prompt['weight']:.15g}", is_number=True),
    Column("share", lambda prompt: f"{prompt['share']:.1%}", is_number=True),
    Column("published", lambda prompt: f"{prompt['published_at']:%Y-%m-%d}"),
    Column("model", lambda prompt: prompt["model"] or "-"),
    Column("description", lambda prompt: prompt["description"]),
)

_PRICES: Final = (
    Column("model", lambda price: price["model"]),
    Column("since", lambda price: price["since"]),
    Column("prompt", lambda price: f"{price['prompt_price']:.15g}", is_number=True),
    Column("completion", lambda price: f"{price['completion_price']:.15g}", is_number=True),
)
# Before any call.
_ALWAYS: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - a day
_MAX_PRICE: Final = 1e9


def _identifier(text: str) -> str:
    if not is_identifier(text):
        raise typer.BadParameter("must be text on one line, in UTF-8")
    return text


def _weight(weight: float) -> float:
    if not (math.isfinite(weight) and weight >= 0):
        raise typer.BadParameter("must be a finite number, 0 or more")
    # + 0.0: a negative zero is the same weight as zero.
    return weight + 0.0


def _price(price: float) -> float:
    if not 0 <= price < _MAX_PRICE:
        raise typer.BadParameter("must be a number from 0 to a billion")
    return price + 0.0


Version = Annotated[str, typer.Argument(help="Name of the version", callback=_identifier)]
Template = Annotated[Path, typer.Option(exists=True, dir_okay=False, readable=True)]


@app.command("list")
def list_(as_json: AsJson = False) -> None:  # noqa: FBT002 - typer reads it as a flag
    """List every version, the oldest first, with its share of the calls that name no version. Read-only.

    The share is that of a service with the settings of this command.
    """
    from oo_ml.services.database import run_once
    from oo_ml.services.prompts import pick_version

    with open_database() as (url, settings):
        traffic = partial(pick_version.list_traffic, settings=settings)
        [listing] = run_once(settings, url, traffic, [None], read_only=True)
    records = [asdict(offer.prompt) | {"share": offer.probability} for offer in listing]
    print_records(records, _COLUMNS, as_json=as_json)


@app.command()
def show(version: Version, as_json: AsJson = False) -> None:  # noqa: FBT002 - typer reads it as a flag
    """Print the templates and parameters of a version. Read-only."""
    from oo_ml.execution.outcomes import only
    from oo_ml.services.database import run_once
    from oo_ml.services.prompts import registry

    with open_database() as (url, settings):
        prompt = only(run_once(settings, url, registry.show, [version], read_only=True))
    if as_json:
        print_json(asdict(prompt))
        return
    typer.echo(
        f"# {prompt.version} ({prompt.status}, published {prompt.published_at:%Y-%m-%d})\n# {prompt.description}"
    )
    for name in _PARAMETERS:
        if (value := getattr(prompt, name)) is not None:
            typer.echo(f"# {name}: {json.dumps(value, ensure_ascii=False)}")
    typer.echo(f"\n## system\n\n{prompt.system_template}\n\n## user\n\n{prompt.user_template}")


@app.command()
def publish(  # noqa: PLR0913, PLR0917 - all that is published
    version: Version,
    system: Template,
    user: Template,
    description: str = "",
    model: Annotated[str | None, typer.Option(help="Model to ask for; default: OO_ML_LLM_MODEL")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 to 2; default: OO_ML_LLM_TEMPERATURE")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Tokens of a reply, at most; default: no limit")] = None,
    response_format: Annotated[
        ResponseFormat | None, typer.Option(help="What the gateway enforces; default: OO_ML_LLM_RESPONSE_FORMAT")
    ] = None,
    stop: Annotated[list[str] | None, typer.Option(help="Text that ends a reply; may be repeated")] = None,
) -> None:
    """Publish a new version from two files with Jinja2 templates. A published version never changes.

    Model and parameters that are not given are those of the service's settings at the time of a call. The new version
    has weight 0 and gets no traffic yet. Exit code 1 if the version exists, a template can't be rendered, or a
    parameter is out of range.
    """
    from pydantic import ValidationError

    from oo_ml.api.prompts.schemas import PublishRequest
    from oo_ml.execution.outcomes import only
    from oo_ml.services.access.audit_log import audited_command
    from oo_ml.services.database import run_once
    from oo_ml.services.prompts import registry

    try:
        request = PublishRequest(
            version=version,
            description=description,
            system_template=_read(system),
            user_template=_read(user),
            model=model,
            temperature=temperature,
            max_tokens=max_tokens,
            response_format=response_format,
            stop=stop or None,
        )
    except ValidationError as error:
        problem = error.errors()[0]
        field = str(problem["loc"][0])
        raise (InvalidTemplateError if "template" in field else InvalidRequestError)(
            f"{field}: {problem['msg']}"
        ) from None
    draft = registry.draft(**request.model_dump(), published_at=datetime.now(UTC))
    with open_database() as (url, settings):
        only(
            run_once(
                settings, url, audited_command(registry.publish, "prompt.published", attrgetter("version")), [draft]
            )
        )
    typer.echo(f"Published {version}")


# Without this, -1 would be taken for an option.
@app.command(context_settings={"ignore_unknown_options": True})
def weight(
    version: Version,
    weight: Annotated[float, typer.Argument(help="Relative to the other weights; 0: no calls", callback=_weight)],
) -> None:
    """Set the weight of a version for calls that name no version. TIP_PROMPT_VERSION, if set, overrides weights.

    Prints the share of these calls that the version gets with the settings of this command. Exit code 1 if the
    version is retired or unknown.
    """
    from oo_ml.execution.outcomes import only
    from oo_ml.services.access.audit_log import audited_command
    from oo_ml.services.database import run_once
    from oo_ml.services.prompts import pick_version, registry

    command = registry.WeighCommand(version, weight)
    with open_database() as (url, settings):
        weigh = audited_command(
            partial(pick_version.set_weights, settings=settings), "prompt.weighed", attrgetter("version")
        )
        offer = only(run_once(settings, url, weigh, [command]))
    typer.echo(f"{version} has the weight {weight:.15g}: {offer.probability:.1%} of the calls that name no version")


@app.command()
def retire(version: Version) -> None:
    """Retire a version: new generations can't use it. Its text and results stay. Exit code 1 if unknown."""
    from oo_ml.execution.outcomes import only
    from oo_ml.services.access.audit_log import audited_command
    from oo_ml.services.database import run_once
    from oo_ml.services.prompts import registry

    with open_database() as (url, settings):
        service = partial(registry.retire, retired_at=datetime.now(UTC))
        only(run_once(settings, url, audited_command(service, "prompt.retired", str), [version]))
    typer.echo(f"Retired {version}")


@app.command()
def price(
    model: Annotated[str, typer.Argument(help="The model, as the answers of /generate name it", callback=_identifier)],
    prompt: Annotated[float, typer.Argument(help="Price of a million tokens of prompts", callback=_price)],
    completion: Annotated[float, typer.Argument(help="Price of a million tokens of replies", callback=_price)],
    since: Annotated[
        datetime, typer.Option(formats=["%Y-%m-%d"], help="First day of the price, UTC; it holds until the next one")
    ] = _ALWAYS,
) -> None:
    """Set the price of a model, from which the report prompt_costs computes costs; all prices have one currency.

    Replaces the price of the same model and day.
    """
    from oo_ml.execution.outcomes import only
    from oo_ml.services.access.audit_log import audited_command
    from oo_ml.services.database import run_once
    from oo_ml.services.prompts import prices

    new = prices.ModelPrice(model, since.date(), Decimal(repr(prompt)), Decimal(repr(completion)))
    with open_database() as (url, settings):
        only(run_once(settings, url, audited_command(prices.set_price, "model.priced", attrgetter("model")), [new]))
    typer.echo(f"{model} costs {prompt:.15g} and {completion:.15g} a million tokens")


@app.command("prices")
def list_prices(as_json: AsJson = False) -> None:  # noqa: FBT002 - typer reads it as a flag
    """List the prices of models, for a million tokens of prompts and of replies. Read-only."""
    from oo_ml.services.database import run_once
    from oo_ml.services.prompts import prices

    with open_database() as (url, settings):
        [found] = run_once(settings, url, prices.list_prices, [None], read_only=True)
    records = [
        {
            "model": one.model,
            "since": one.since.isoformat(),
            "prompt_price": float(one.prompt_price),
            "completion_price": float(one.completion_price),
        }
        for one in found
    ]
    print_records(records, _PRICES, as_json=as_json)


def _read(file: Path) -> str:
    with file.open("rb") as opened:
        content = opened.read(_MAX_FILE_BYTES + 1)
    if len(content) > _MAX_FILE_BYTES:
        raise InvalidTemplateError(f"{file} is larger than {_MAX_FILE_BYTES} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise InvalidTemplateError(f"{file} is not UTF-8") from None
