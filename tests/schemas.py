"""`python -m tests.schemas` writes docs/schemas anew, after a change of the records that report.json is made from."""

from pathlib import Path

from twostage.report.json_schema import VERSION, schema_text

SCHEMA = Path(__file__).parents[1] / "docs" / "schemas" / f"report-{VERSION}.schema.json"

if __name__ == "__main__":
    SCHEMA.write_text(schema_text())
    print(f"wrote {SCHEMA}")
