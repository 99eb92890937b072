"""Clients of the Cloud Map API, pointed at a server by the variables that AWS's clients read, and what is asked of all of them."""

import json
import os
import unittest.mock

import boto3
import botocore.config

import wire

# Errors that AWS answers in this protocol whatever the service is; they are not in the service's model.
FRONT_DOOR = {
    "AccessDeniedException": 400,
    "ThrottlingException": 400,
    "UnrecognizedClientException": 403,
    "InvalidSignatureException": 403,
    "UnknownOperationException": 400,
}


def env(server, region=None):
    """The variables for the AWS CLI and the SDKs. The last keeps them from putting "data-" in front of the host's name."""
    base = server.env(region) if region else server.env()
    return {**base, "AWS_ENDPOINT_URL_SERVICEDISCOVERY": server.endpoint, "AWS_DISABLE_HOST_PREFIX_INJECTION": "true"}


def client(server, **credentials):
    """A boto3 client that never retries, and the set of operations that it was asked to call."""
    config = botocore.config.Config(retries={"total_max_attempts": 1}, read_timeout=30, connect_timeout=10)
    with unittest.mock.patch.dict(os.environ, env(server)):
        made = boto3.session.Session(**credentials).client("servicediscovery", config=config)
    called = set()
    made.meta.events.register("before-call.servicediscovery", lambda model, **_: called.add(model.name))
    made.meta.events.register("after-call.servicediscovery", check_answer)
    return made, called


def check_answer(http_response, model, **_):
    """Holds an answer against the service model, as the strictest client would."""
    headers, body = http_response.headers, http_response.content
    assert headers.get("Content-Type") == "application/x-amz-json-1.1", headers
    assert wire.UUID.fullmatch(headers.get("x-amzn-RequestId", "")), headers
    value = json.loads(body, parse_float=wire.decimal.Decimal)
    if http_response.status_code == 200:
        if model.output_shape is not None:
            wire.check_shape(model.output_shape, value, model.name)
        return
    errors = {**FRONT_DOOR, **{s.name: s.metadata["error"]["httpStatusCode"] for s in model.error_shapes}}
    code = headers.get("x-amzn-ErrorType")
    assert code in errors, f"{model.name} answered with {code}, which is not one of its errors"
    assert http_response.status_code == errors[code]
    assert value.pop("__type") == code
    assert value.pop("Message").strip()
    shape = next((s for s in model.error_shapes if s.name == code), None)
    assert not value or set(value) <= set(shape.members), value
