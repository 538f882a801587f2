"""Names of the schemas for reports. SQL says `analytics` and `rollup`; the settings may choose other names (ADR 13).

With other names, the text of each statement is translated before it is sent. With the default names nothing changes.
"""

import re
from collections.abc import Callable
from typing import Final

from sqlalchemy import Engine, event

from oo_ml.settings import Settings

# A qualified name, a schema by itself, or its name in quotes.
_NAME: Final = re.compile(r"\b(analytics|rollup)(?=\.)|(?<=SCHEMA )(analytics|rollup)\b|(?<=')(analytics|rollup)(?=')")


# ADR 13
def translation(settings: Settings) -> Callable[[str], str]:
    """Return the function that replaces the default names in a statement with those of the settings."""
    names = {"analytics": settings.analytics_schema, "rollup": settings.rollup_schema}
    if all(default == chosen for default, chosen in names.items()):
        return str
    return lambda statement: _NAME.sub(lambda found: names[found[0]], statement)


def translate_statements(engine: Engine, settings: Settings) -> None:
    """Make `engine` translate every statement before it is sent."""
    translate = translation(settings)
    if translate is not str:

        @event.listens_for(engine, "before_cursor_execute", retval=True)
        def _translate(
            _connection: object, _cursor: object, statement: str, parameters: object, _context: object, _many: object
        ) -> tuple[str, object]:
            return translate(statement), parameters
