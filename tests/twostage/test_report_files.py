"""report.json has a schema, is read again, also of before, and goes into the forms of others."""

import gzip
import json
from dataclasses import replace

import jsonschema
import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.schemas import SCHEMA
from tests.twostage.synthetic_sweep import METRIC, synthetic_results, with_metric
from twostage.analysis.leaderboard import SPEED_UP
from twostage.analysis.summary import summarize
from twostage.report.exchange import EVERY_EVAL_EVER, every_eval_ever, hub_results
from twostage.report.files import read_report, report_json
from twostage.report.json_schema import VERSION, report_schema, schema_text
from twostage.verify.studies import packaged_studies

PACKAGED = packaged_studies()["demo"]


def test_the_published_schema_is_that_of_the_records():
    assert SCHEMA.read_text() == schema_text(), "python -m tests.schemas writes it anew"
    Draft202012Validator.check_schema(report_schema())


@pytest.mark.parametrize("factors", [(2.0,), (2.0, 1.9, 2.1), (100.0, 90.0), (2.0, 0.5)])
def test_every_report_fulfils_its_schema(factors):
    results = synthetic_results(num_seeds=len(factors), factors=factors)
    values = json.loads(report_json(results, summarize(results)))
    jsonschema.validate(values, report_schema(), Draft202012Validator)
    assert values["schema_version"] == VERSION


def test_a_report_of_a_diverged_run_fulfils_it_too():
    results = with_metric(synthetic_results(3), lambda curve, point: float("nan") if curve.seed else 1.0)
    jsonschema.validate(json.loads(report_json(results, summarize(results))), report_schema(), Draft202012Validator)


@pytest.mark.parametrize(
    ("key", "value"),
    [("seeds", "0"), ("tempo", 1), ("schema_version", 1), ("curves", [{"arm": "control"}]), ("max_seeds", 2.5)],
)
def test_what_is_no_report_does_not_fulfil_it(key, value):
    results = synthetic_results()
    values = json.loads(report_json(results, summarize(results))) | {key: value}
    assert list(Draft202012Validator(report_schema()).iter_errors(values))


def test_published_reports_of_before_fulfil_it_and_are_read(tmp_path):
    values = json.loads(gzip.decompress(PACKAGED.read_bytes()))
    jsonschema.validate(values, report_schema(), Draft202012Validator)
    results = read_report(PACKAGED)
    path = tmp_path / "report.json"
    path.write_bytes(report_json(results, summarize(results)))
    assert read_report(path) == results


def test_a_report_of_a_newer_version_is_refused(tmp_path):
    results = synthetic_results()
    values = json.loads(report_json(results, summarize(results)))
    (tmp_path / "report.json").write_text(json.dumps(values | {"schema_version": "2.0"}))
    with pytest.raises(ValueError, match=r"report\.json is of version 2\.0, this reads 1\."):
        read_report(tmp_path / "report.json")


TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
NAMED = {"type": "object", "required": ["name", "id"], "properties": {"additional_details": TEXTS}}
RECORD = {
    "type": "object",
    "additionalProperties": False,
    "required": [
        "schema_version", "evaluation_id", "retrieved_timestamp", "source_metadata", "model_info", "eval_library",
        "evaluation_results",
    ],
    "properties": {
        "schema_version": {"const": EVERY_EVAL_EVER},
        "evaluation_id": {"type": "string"},
        "evaluation_timestamp": {"type": "string", "pattern": r"^\d+$"},
        "retrieved_timestamp": {"type": "string", "pattern": r"^\d+$"},
        "source_metadata": {
            "required": ["source_type", "source_organization_name", "evaluator_relationship"],
            "properties": {"source_type": {"enum": ["documentation", "evaluation_run"]},
                           "evaluator_relationship": {"enum": ["first_party", "third_party", "other"]}},
        },
        "eval_library": {"required": ["name", "version"], "properties": {"additional_details": TEXTS}},
        "model_info": NAMED,
        "evaluation_results": {
            "type": "array",
            "minItems": 1,
            "items": {
                "required": ["evaluation_name", "source_data", "metric_config", "score_details"],
                "properties": {
                    "source_data": {"required": ["dataset_name", "source_type"],
                                    "properties": {"source_type": {"const": "other"}}},
                    "metric_config": {
                        "required": ["lower_is_better"],
                        "if": {"required": ["score_type"]},
                        "then": {"required": ["min_score", "max_score"]},
                    },
                    "score_details": {
                        "required": ["score"],
                        "properties": {
                            "score": {"type": "number"},
                            "uncertainty": {
                                "properties": {"confidence_interval": {"required": ["lower", "upper"]},
                                               "standard_error": {"required": ["value"]},
                                               "num_samples": {"type": "integer"}},
                            },
                        },
                    },
                },
            },
        },
    },
}  # fmt: skip
"""The parts of Every Eval Ever's published form, 0.2.2, that a report has something for."""


def test_records_for_every_eval_ever_have_its_form_and_our_numbers():
    results = synthetic_results(3, factors=(2.0, 1.9, 2.1))
    records = every_eval_ever(results, "A Laboratory")
    assert set(records) == {"control-sit", "equivariant-sit"}
    for record in records.values():
        jsonschema.validate(record, RECORD)
        json.dumps(record, allow_nan=False)
    scores = {each["metric_config"]["metric_id"]: each for each in records["equivariant-sit"]["evaluation_results"]}
    verdict = summarize(results).comparisons[0].verdict
    speed_up = scores[f"eqvae.{SPEED_UP}"]["score_details"]
    assert speed_up["score"] == verdict.ratio
    assert speed_up["uncertainty"]["confidence_interval"]["lower"] == verdict.low
    distance = scores[f"eqvae.{METRIC}"]
    assert distance["metric_config"]["lower_is_better"]
    row = next(row for row in summarize(results).last_step if row.arm == "equivariant")
    assert distance["score_details"]["score"] == row.metrics[METRIC].mean
    assert scores["eqvae.precision"]["metric_config"]["max_score"] == 1
    assert f"eqvae.{SPEED_UP}" not in [
        each["metric_config"]["metric_id"] for each in records["control-sit"]["evaluation_results"]
    ]
    assert records["equivariant-sit"]["model_info"]["id"] == "A-Laboratory/tiny-shapes-equivariant-sit"
    with pytest.raises(ValueError, match="give its name"):
        every_eval_ever(results, " ")


def test_results_for_the_hub_are_read_by_its_library():
    hub = pytest.importorskip("huggingface_hub")
    if not hasattr(hub, "parse_eval_result_entries"):
        pytest.skip("this huggingface-hub knows no .eval_results")
    results = synthetic_results(3, factors=(2.0, 1.9, 2.1))
    found = hub_results(results, "someone/shapes:generation", "https://example.org/report.html")
    (entry,) = hub.parse_eval_result_entries(yaml.safe_load(yaml.safe_dump(found["equivariant-sit"])))
    row = next(row for row in summarize(results).leaderboard if not row.is_control)
    assert (entry.dataset_id, entry.task_id, entry.value) == ("someone/shapes", "generation", row.columns[METRIC].value)
    assert entry.date == results.created
    assert "3 seeds; against the control faster by 2.00 times" in entry.notes
    assert entry.source_url == "https://example.org/report.html"
    assert "source" not in hub_results(replace(results, curves=results.curves), "a/b:c")["control-sit"][0]
    with pytest.raises(ValueError, match="give OWNER/DATASET:TASK"):
        hub_results(results, "someone/shapes")
