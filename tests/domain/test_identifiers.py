"""Which text may name something, and which PostgreSQL can hold."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oo_ml.domain.identifiers import MAX_IDENTIFIER_BYTES, first_id, is_identifier, is_storable, storable, time_of

CONTROLS = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))]


@pytest.mark.parametrize("text", ["a", " ", "a/b", "a.b", "ünï-cödé", "睡眠", "👩\u200d🚀", "x" * 200, "é" * 100])
def test_ids_are_short_text(text: str) -> None:
    """Any text of at most 200 bytes is an id; a slash or a dot in it is nothing special."""
    assert is_identifier(text)


@pytest.mark.parametrize(
    "text",
    ["", "x" * 201, "é" * 101, "a" + "é" * 100, "a\0b", "a\nb", "\t", "a\x7f", "\x85", "\ud800", "a\udfff"],
)
def test_what_can_not_be_an_id(text: str) -> None:
    """Nothing, too many bytes, control characters, NUL and lone surrogates are refused."""
    assert not is_identifier(text)


@given(st.text(st.characters(), max_size=300))
def test_an_id_can_be_encoded_and_stored(text: str) -> None:
    """Whatever is accepted fits the bytes, holds no control character and can be stored as it is."""
    if is_identifier(text):
        assert 1 <= len(text.encode()) <= MAX_IDENTIFIER_BYTES
        assert not set(text) & set(CONTROLS)
        assert is_storable(text)


@given(st.text(st.characters()))
def test_any_text_can_be_made_storable(text: str) -> None:
    """NULs and lone surrogates go, everything else stays."""
    made = storable(text)

    assert is_storable(made)
    assert "\0" not in made
    assert made.encode().decode() == made
    assert is_storable(text) == (made == text)


def test_what_storing_changes() -> None:
    """A lone surrogate becomes a question mark, a NUL nothing."""
    assert storable("a\0b\ud800c") == "ab?c"


def test_a_uuidv7_tells_its_time() -> None:
    """The greatest lies beyond what a datetime can say."""
    assert time_of(UUID("01936f3e-0000-7000-8000-000000000000")) == datetime(2024, 11, 27, 20, 9, 14, 496000, UTC)
    assert time_of(first_id(datetime(2026, 12, 1, tzinfo=UTC))) == datetime(2026, 12, 1, tzinfo=UTC)
    assert first_id(datetime(1970, 1, 1, 0, 0, 0, 1, UTC)) == UUID(int=1 << 80)
    for moment in (datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC), datetime.min.replace(tzinfo=UTC)):
        assert first_id(moment) == UUID(int=0)
    assert time_of(first_id(datetime.max.replace(tzinfo=UTC))) == datetime.max.replace(tzinfo=UTC)
    assert time_of(UUID(int=0)) == datetime(1970, 1, 1, tzinfo=UTC)
    assert time_of(UUID("ffffffff-ffff-7fff-bfff-ffffffffffff")) == datetime.max.replace(tzinfo=UTC)
