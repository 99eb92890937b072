"""What fairlead-agent ecs makes of task definitions is what AWS's own client takes: its
parameters are checked by botocore's model of ECS, as `aws ecs register-task-definition` does."""

import glob
import json
import os

import botocore.session
import pytest
from botocore.validate import ParamValidator

CASES = sorted(glob.glob(os.path.join(os.path.dirname(__file__), "../../cmd/fairlead-agent/testdata/ecs/*.txtar")))


def section(path, name):
    with open(path, encoding="utf-8") as f:
        text = f.read()
    return text.split(f"-- {name} --\n", 1)[1].split("\n-- ", 1)[0]


def complaints(definition):
    model = botocore.session.get_session().get_service_model("ecs")
    shape = model.operation_model("RegisterTaskDefinition").input_shape
    return ParamValidator().validate(definition, shape).generate_report()


def test_cases():
    assert len(CASES) >= 5


@pytest.mark.parametrize("path", CASES, ids=os.path.basename)
def test_is_taken(path):
    assert complaints(json.loads(section(path, "output.json"))) == ""


def test_what_was_described_is_not():
    """The check is worth something: fields that ECS adds are refused."""
    [path] = [p for p in CASES if "fargate" in p]
    described = json.loads(section(path, "input.json"))["taskDefinition"]
    assert "taskDefinitionArn" in complaints(described)
