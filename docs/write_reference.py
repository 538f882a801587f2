"""Write docs/reference/ from the code: `make docs`, or `.venv/bin/python -m docs.write_reference`.

Each page has a head, which is written by hand, and a body below MARK, which this module replaces.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, get_args

import typer
from pydantic import SecretStr
from sqlalchemy import Column, Table
from sqlalchemy.dialects.postgresql.base import PGDialect
from typer.cli import get_docs_for_click
from typer.core import TyperGroup

from oo_ml.api.app import create_api
from oo_ml.api.error_statuses import STATUSES
from oo_ml.api.openapi import OF_CALLS_WITH_KEY, OF_EVERY_CALL
from oo_ml.cli.exit_codes import MEANINGS
from oo_ml.cli.main import COMMANDS, app
from oo_ml.domain.access import PURPOSES
from oo_ml.errors import OoMlError
from oo_ml.metrics.declarations import ALL
from oo_ml.settings import Settings
from oo_ml.storage.schema.all_tables import metadata

REFERENCE: Final = Path(__file__).parent / "reference"
MARK: Final = "<!-- `make docs` writes everything below from the code. -->\n"

Json = dict[str, Any]

# Every call can be answered with these; docs/reference/http.md says so in its head.
_OF_EVERY_CALL: Final = {"invalid"} | {error.code for error in (*OF_EVERY_CALL, *OF_CALLS_WITH_KEY)}
_SCHEMA: Final = "#/components/schemas/"
_TYPES: Final[dict[object, str]] = {
    bool: "`true` or `false`",
    float: "number",
    int: "integer",
    Path: "path",
    SecretStr: "secret",
    str: "text",
}


def written(page: Path) -> str:
    """Return a page of the reference with its body as the code has it now."""
    head, _, _ = page.read_text("utf-8").partition(MARK)
    return f"{head}{MARK}\n{BODIES[page.name]()}"


def settings() -> str:
    """Return the table of settings."""
    rows = [
        (f"`{Settings.variable(name)}`", _type(field.annotation), _default(name), field.description or "")
        for name, field in Settings.model_fields.items()
    ]
    return _table(("variable", "type", "default", "meaning"), rows)


def command_line() -> str:
    """Return the exit codes, and the help of every command, as typer writes it."""
    codes = _table(("exit code", "meaning"), [(f"{code:d}", meaning) for code, meaning in MEANINGS.items()])
    loaded = [one.load() for one in COMMANDS]
    command = TyperGroup(name="oo-ml", help=app.help, commands={str(one.name): one for one in loaded})
    context = typer.Context(command, info_name="oo-ml")
    found = get_docs_for_click(obj=command, ctx=context, name="oo-ml", title="oo-ml")
    # The heading of the page stands in its head, and the list of commands there would cut their sentences off.
    found = found.partition("\n## ")[2]
    commands = re.sub(r"^```console\n\$ ", "```text\n", f"## {found}", flags=re.MULTILINE).strip()
    return f"{codes}\n{commands}\n"


def tables() -> str:
    """Return a section for each table, with its columns, as declared for the database."""
    return "\n".join(_describe_table(table) for table in sorted(metadata.tables.values(), key=lambda table: table.name))


def error_codes() -> str:
    """Return the codes by status, with the sentence of each."""
    said: dict[tuple[int, str], OoMlError] = {}
    for error, status in STATUSES.items():
        said.setdefault((status, error.code), error())
    rows = [(str(status), f"`{code}`", said[status, code].message) for status, code in sorted(said)]
    return _table(("status", "code", "meaning"), rows)


def http() -> str:
    """Return every call by subject, and every schema that bodies and answers refer to."""
    document = create_api(Settings()).openapi()
    by_subject: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, call in methods.items():
            by_subject.setdefault(call["tags"][0], []).append(_describe_call(f"{method.upper()} {path}", call))
    calls = [f"## Calls: {subject}\n\n" + "\n".join(sections) for subject, sections in by_subject.items()]
    schemas = [_describe_schema(name, schema) for name, schema in document["components"]["schemas"].items()]
    return "\n".join([*calls, "## Schemas\n", *schemas])


def access() -> str:
    """Return the scopes, and the calls that need each."""
    by_scope: dict[str, list[str]] = {scope: [] for scope in PURPOSES}
    for path, methods in create_api(Settings()).openapi()["paths"].items():
        for method, call in methods.items():
            for requirement in call["security"]:
                [[scope]] = requirement.values()
                by_scope[scope].append(f"`{method.upper()} {path}`")
    by_scope["read"] += ["`/dashboard`", "`/docs`", "`/openapi.json`"]
    by_scope["admin"] = ["all calls"]
    rows = [(f"`{scope}`", purpose, ", ".join(by_scope[scope])) for scope, purpose in PURPOSES.items()]
    return _table(("scope", "purpose", "calls"), rows)


def metrics() -> str:
    """Return the table of metrics."""
    rows = [
        (f"`{one.name}`", one.kind.value, ", ".join(f"`{label}`" for label in one.labels), one.meaning) for one in ALL
    ]
    return _table(("metric", "type", "labels", "meaning"), rows)


def _describe_call(title: str, call: Json) -> str:
    parts = [f"### `{title}`", f"{call['summary']}. {_one_line(call.get('description', ''))}"]
    parameters = [
        (f"`{one['name']}`", one["in"], _json_type(one["schema"]), _one_line(one.get("description", "")))
        for one in call.get("parameters", ())
    ]
    if parameters:
        parts.append(_table(("parameter", "in", "type", "meaning"), parameters).rstrip())
    ends = [f"Name in clients: `{call['operationId']}`."]
    if "requestBody" in call:
        ends.append(f"Body: {_content(call['requestBody'])}.")
    codes = []
    for status, response in call["responses"].items():
        if status.startswith("2"):
            ends.append(f"Answer: {status}, {_content(response)}.")
        else:
            examples = response["content"]["application/json"]["examples"]
            codes += [f"{status} `{code}`" for code in examples if code not in _OF_EVERY_CALL]
    if codes:
        ends.append(f"Errors: {', '.join(codes)}.")
    return "\n\n".join([*parts, " ".join(ends)]) + "\n"


def _describe_schema(name: str, schema: Json) -> str:
    parts = [f"### {name}"]
    if "description" in schema:
        parts.append(_one_line(schema["description"]))
    required = schema.get("required", ())
    rows = [
        (f"`{field}`", _json_type(one), "yes" if field in required else "", _one_line(one.get("description", "")))
        for field, one in schema.get("properties", {}).items()
    ]
    if rows:
        parts.append(_table(("field", "type", "required", "meaning"), rows).rstrip())
    elif "enum" in schema or "anyOf" in schema:
        parts.append(_json_type(schema))
    return "\n\n".join(parts) + "\n"


def _content(holder: Json) -> str:
    [(media_type, content)] = holder["content"].items()
    return _json_type(content["schema"]) if media_type == "application/json" else f"`{media_type}`"


def _json_type(schema: Json) -> str:
    """Return the type of a field in words; a schema of its own is a link."""
    match schema:
        case {"$ref": str(reference)}:
            name = reference.removeprefix(_SCHEMA)
            said = f"[{name}](#{name.lower()})"
        case {"anyOf": several} | {"oneOf": several}:
            said = " or ".join(dict.fromkeys(map(_json_type, several)))
        case {"enum": values}:
            said = ", ".join(f"`{value}`" for value in values)
        case {"const": value}:
            said = f"`{json.dumps(value)}`"
        case {"type": "array"}:
            said = f"list of {_json_type(schema.get('items', {}))}"
        case {"additionalProperties": dict(values)}:
            said = f"object of {_json_type(values)}"
        case {"type": kind, "format": form}:
            said = f"{kind} ({form})"
        case _:
            said = schema.get("type", "any")
    return said


def _describe_table(table: Table) -> str:
    rows = [(f"`{one.name}`", _column_type(one), one.comment or "") for one in table.columns]
    key = ", ".join(f"`{one.name}`" for one in table.primary_key)
    lines = [f"## {table.name}", f"{table.comment}.", _table(("column", "type", "meaning"), rows).rstrip()]
    return "\n\n".join([*lines, f"Primary key: {key}."]) + "\n"


def _column_type(column: Column[Any]) -> str:
    compiled = column.type.compile(dialect=PGDialect())  # type: ignore[no-untyped-call]
    declared = compiled.lower().partition(" collate ")[0]
    return f"{declared}, null" if column.nullable else declared


def _type(annotation: object) -> str:
    """Return the type of a setting in words."""
    if arguments := [one for one in get_args(annotation) if one is not type(None)]:
        # `X | None`, or Annotated[X, ...]
        return _type(arguments[0])
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return ", ".join(f"`{member.value}`" for member in annotation)
    return _TYPES[annotation]


def _default(name: str) -> str:
    if name == "data_dir":
        return "`~/.local/share/oo-ml`"
    match Settings.model_fields[name].get_default():
        case None | "":
            return ""
        case bool(value):
            return f"`{str(value).lower()}`"
        case float(number):
            return f"`{number:g}`"
        case SecretStr() as secret:
            return f"`{secret.get_secret_value()}`"
        case value:
            return f"`{value}`"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def lines() -> Iterator[str]:
        yield f"| {' | '.join(head)} |"
        yield "|---" * len(head) + "|"
        for row in rows:
            yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |".replace("|  |", "| |")

    return "\n".join(lines()) + "\n"


def _one_line(sentences: str) -> str:
    return " ".join(sentences.split())


BODIES: Final[dict[str, Callable[[], str]]] = {
    "access.md": access,
    "cli.md": command_line,
    "errors.md": error_codes,
    "http.md": http,
    "metrics.md": metrics,
    "settings.md": settings,
    "tables.md": tables,
}


def main() -> None:
    """Write every page that differs from the code."""
    for name in BODIES:
        page = REFERENCE / name
        page.write_text(written(page), "utf-8")


if __name__ == "__main__":
    main()
