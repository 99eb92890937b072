"""Each client: each operation, and each error of the model as the client's own type for it."""

import pytest

import kinds
import operations
import sdks
import wire
from harness import ACCOUNT, REGION

PYTHON = ["boto3", "cli"]
PROGRAMS = ["gosdk1", "gosdk2", "java", "javascript"]

# How each client calls the type of an error, given its code without "Exception".
TYPES = {
    "boto3": "{}Exception",
    "cli": "{}Exception",
    "gosdk1": "*appmesh.{}Exception",
    "gosdk2": "*types.{}Exception",
    "java": "software.amazon.awssdk.services.appmesh.model.{}Exception",
    "javascript": "{}Exception",
}


def settings(server, provoked):
    """What the programs are told."""
    key, secret = server.keys()
    return {
        "endpoint": server.endpoint,
        "accessKeyId": key,
        "secretAccessKey": secret,
        "region": REGION,
        "account": ACCOUNT,
        "mesh": kinds.unique("sdk"),
        "provoked": provoked,
    }


@pytest.fixture(scope="module")
def running(server, provoked, tmp_path_factory):
    """The programs, all started at once: they wait for the control plane more than they work."""
    directory, started = tmp_path_factory.mktemp("sdks"), {}
    try:
        for name in PYTHON:
            started[name] = operations.Background(name, server, settings(server, provoked))
        for name in PROGRAMS:
            try:
                started[name] = sdks.Program(name, "operations", settings(server, provoked), directory)
            except (pytest.skip.Exception, pytest.fail.Exception) as reason:
                started[name] = reason
        yield started
    finally:
        for program in started.values():
            if not isinstance(program, BaseException):
                program.close()


@pytest.mark.parametrize("name", PYTHON + PROGRAMS)
def test_operations_and_errors(running, name):
    if isinstance(running[name], BaseException):
        raise running[name]
    report = running[name].report()
    model = wire.model()
    assert sorted(report["model"]) == sorted(model.operation_names), "the SDK has other operations than botocore"
    assert report["called"] == sorted(model.operation_names)
    codes = {shape.name for shape in model.error_shapes}
    assert report["errors"] == {code: TYPES[name].format(code.removesuffix("Exception")) for code in codes}
    assert report["checks"] > 60
