"""The published schema is what the code says today."""

from asterism.planner.schema import SCHEMA_FILE, schema_text


def test_the_published_schema_is_fresh() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == schema_text(), "run: make schema"
