"""Rules for identifiers and for text that PostgreSQL can store."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oo_ml.domain.identifiers import MAX_IDENTIFIER_BYTES, first_id, is_identifier, is_storable, make_storable, time_of

CONTROLS = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))]


@pytest.mark.parametrize("text", ["a", " ", "a/b", "a.b", "ünï-cödé", "睡眠", "👩\u200d🚀", "x" * 200, "é" * 100])
def test_valid_identifiers(text: str) -> None:
    """An id is any text of 1 to 200 bytes, slashes and dots included."""
    assert is_identifier(text)


@pytest.mark.parametrize(
    "text",
    ["", "x" * 201, "é" * 101, "a" + "é" * 100, "a\0b", "a\nb", "\t", "a\x7f", "\x85", "\ud800", "a\udfff"],
)
def test_invalid_identifiers(text: str) -> None:
    """Empty text, more than 200 bytes, control characters and lone surrogates are refused."""
    assert not is_identifier(text)


@given(st.text(st.characters(), max_size=300))
def test_any_text_as_identifier(text: str) -> None:
    """Each accepted text has 1 to 200 bytes and no control character, and PostgreSQL can store it."""
    if is_identifier(text):
        assert 1 <= len(text.encode()) <= MAX_IDENTIFIER_BYTES
        assert not set(text) & set(CONTROLS)
        assert is_storable(text)


@given(st.text(st.characters()))
def test_make_storable_with_any_text(text: str) -> None:
    """The result has no NUL and no lone surrogate; text without them is unchanged."""
    made = make_storable(text)

    assert is_storable(made)
    assert "\0" not in made
    assert made.encode().decode() == made
    assert is_storable(text) == (made == text)


def test_make_storable() -> None:
    """A lone surrogate becomes a question mark; a NUL is removed."""
    assert make_storable("a\0b\ud800c") == "ab?c"


def test_time_of_uuidv7() -> None:
    """time_of and first_id convert between ids and times, up to the limits of both types."""
    assert time_of(UUID("01936f3e-0000-7000-8000-000000000000")) == datetime(2024, 11, 27, 20, 9, 14, 496000, UTC)
    assert time_of(first_id(datetime(2026, 12, 1, tzinfo=UTC))) == datetime(2026, 12, 1, tzinfo=UTC)
    assert first_id(datetime(1970, 1, 1, 0, 0, 0, 1, UTC)) == UUID(int=1 << 80)
    for moment in (datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC), datetime.min.replace(tzinfo=UTC)):
        assert first_id(moment) == UUID(int=0)
    assert time_of(first_id(datetime.max.replace(tzinfo=UTC))) == datetime.max.replace(tzinfo=UTC)
    assert time_of(UUID(int=0)) == datetime(1970, 1, 1, tzinfo=UTC)
    assert time_of(UUID("ffffffff-ffff-7fff-bfff-ffffffffffff")) == datetime.max.replace(tzinfo=UTC)
