"""The JSON Schema that `fx plugins schema` prints, by a validator of the standard."""

import json
import subprocess
import sys
from typing import Any

import jsonschema
import pytest

DENSE = {"linen": {"layer": "Dense", "features": 3}, "nnx": {"layer": "Linear", "in_features": 2, "out_features": 3}}


@pytest.fixture(scope="module", params=["linen", "nnx"])
def face(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def validator(face: str) -> Any:
    program = "from fx_core.cli.main import main; main()"
    command = [sys.executable, "-c", program, "plugins", "schema", "--face", face]
    schema = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_right_descriptions(face: str, validator: Any):
    validator.validate(DENSE[face])
    validator.validate({"layer": "Sequential", "layers": [DENSE[face], {"function": "relu"}]})


@pytest.mark.parametrize(
    "change", [{"layer": "Dens"}, {"use_bias": "yes"}, {"feature": 3}, {"features": "x", "out_features": "x"}]
)
def test_wrong_descriptions(face: str, validator: Any, change: dict[str, Any]):
    assert not validator.is_valid({**DENSE[face], **change})
    assert not validator.is_valid({"layer": "Sequential", "layers": [{**DENSE[face], **change}]})


def test_what_is_no_description(validator: Any):
    for wrong in ([1], "Dense", {"layer": "Dense"}, {}):
        assert not validator.is_valid(wrong), wrong
