"""Writes the published JSON Schema of plan files: `python -m asterism.planner.schema`."""

import json
from pathlib import Path
from typing import Final

from asterism.planner.plan_file import PlanDocument

SCHEMA_FILE: Final = Path(__file__).with_name("plan.schema.json")


def schema_text() -> str:
    """The schema as the file holds it."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Asterism plan file",
        **PlanDocument.model_json_schema(by_alias=True),
    }
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    SCHEMA_FILE.write_text(schema_text(), encoding="utf-8")
