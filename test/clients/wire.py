"""The wire itself: signed HTTP requests as no client would send them, and answers held against the service model.

boto3 takes nearly anything for an answer. So every answer that the tests' clients get goes
through check_answer first, which takes only what the strictest of the clients would.
"""

import dataclasses
import decimal
import gzip
import http.client
import json
import pathlib
import re

import botocore
import botocore.auth
import botocore.awsrequest
import botocore.credentials
import botocore.model

# Errors that AWS answers with before a service is reached; they are not in the service's model.
FRONT_DOOR = {
    "AccessDeniedException": 403,
    "ExpiredTokenException": 403,
    "IncompleteSignatureException": 403,
    "InvalidSignatureException": 403,
    "MissingAuthenticationTokenException": 403,
    "UnrecognizedClientException": 403,
    "RequestEntityTooLargeException": 413,
    "UnknownOperationException": 404,
}

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def model():
    """The service model that the clients are made from."""
    folder = pathlib.Path(botocore.__file__).parent / "data" / "appmesh" / "2019-01-25"
    return botocore.model.ServiceModel(json.loads(gzip.decompress((folder / "service-2.json.gz").read_bytes())), "appmesh")


def check_answer(http_response, model, **_):
    """Checks an answer of the server; botocore calls it for each."""
    headers, body = http_response.headers, http_response.content
    assert headers.get("Content-Type") == "application/json", headers
    assert UUID.fullmatch(headers.get("x-amzn-RequestId", "")), headers
    value = json.loads(body, parse_float=decimal.Decimal)
    if http_response.status_code >= 300:
        errors = {**FRONT_DOOR, **{s.name: s.metadata["error"]["httpStatusCode"] for s in model.error_shapes}}
        code = headers.get("x-amzn-ErrorType")
        assert code in errors, f"{model.name} answered with {code}, which is not one of its errors"
        assert http_response.status_code == errors[code]
        assert set(value) == {"message"}
        assert value["message"].strip()
        assert "\n" not in value["message"]
        return
    assert http_response.status_code == 200
    shape = model.output_shape
    if payload := shape.serialization.get("payload"):
        shape = shape.members[payload]
    check_shape(shape, value, model.name)


def check_shape(shape, value, path):
    """Checks that a JSON value is of a shape of the model: all that is required, nothing that is unknown, the right types."""
    types = {
        "structure": dict,
        "list": list,
        "map": dict,
        "string": str,
        "integer": int,
        "long": int,
        "boolean": bool,
        "timestamp": (int, decimal.Decimal),
    }
    assert isinstance(value, types[shape.type_name]), f"{path} is {value!r}, not a {shape.type_name}"
    assert isinstance(value, bool) == (shape.type_name == "boolean"), path
    if shape.type_name == "structure":
        assert set(value) <= set(shape.members), f"{path} has members that the model does not know: {set(value) - set(shape.members)}"
        assert set(value) >= set(shape.required_members), f"{path} lacks {set(shape.required_members) - set(value)}"
        assert len(value) == 1 or not getattr(shape, "is_tagged_union", False), f"{path} is a union and has {sorted(value)}"
        for name, member in value.items():
            check_shape(shape.members[name], member, f"{path}.{name}")
    elif shape.type_name == "list":
        for i, member in enumerate(value):
            check_shape(shape.member, member, f"{path}[{i}]")
    elif shape.type_name == "map":
        for name, member in value.items():
            check_shape(shape.key, name, f"the name {path}.{name}")
            check_shape(shape.value, member, f"{path}.{name}")
    elif shape.type_name == "timestamp":
        # Seconds, with milliseconds at most.
        assert value * 1000 % 1 == 0, f"{path} is {value}"
        assert 1.6e9 < value < 1e11, f"{path} is {value}"
    elif shape.type_name == "string" and getattr(shape, "enum", None):
        assert value in shape.enum, f"{path} is {value}"


@dataclasses.dataclass
class Answer:
    """What came back for a request."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def code(self):
        """The error's code, in the form that every client understands."""
        return self.headers["x-amzn-ErrorType"]

    # As botocore calls them, for check_answer.
    status_code = property(lambda self: self.status)
    content = property(lambda self: self.body)

    @property
    def message(self):
        """The error's text."""
        return json.loads(self.body)["message"]


def signature(server, method, path, body, headers):
    """The headers that sign a request, together with those given. The query in path must be encoded as it is to be signed."""
    request = botocore.awsrequest.AWSRequest(method, server.endpoint + path, headers=headers, data=body)
    botocore.auth.SigV4Auth(botocore.credentials.Credentials(*server.keys()), "appmesh", server.regions[0]).add_auth(request)
    return dict(request.headers.items())


def send(server, method, path, body=b"", headers=None, sign=True, chunked=False):
    """Sends one request and returns the answer. A body that is no bytes is sent as JSON."""
    if not isinstance(body, (bytes, type(None))):
        body = json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} if headers is None else headers
    if sign:
        headers = signature(server, method, path, body, headers)
    connection = http.client.HTTPConnection(server.addresses["api"], timeout=30)
    try:
        pieces = iter([body[:1000], body[1000:]]) if chunked else body
        connection.request(method, path, pieces, headers, encode_chunked=chunked)
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


class Line:
    """A connection to a server that is kept open, for very many signed requests. Each thread has its own."""

    def __init__(self, server):
        self.endpoint = server.endpoint
        self.signer = botocore.auth.SigV4Auth(botocore.credentials.Credentials(*server.keys()), "appmesh", server.regions[0])
        self.connection = http.client.HTTPConnection(server.addresses["api"], timeout=30)
        self.sent = 0

    def send(self, method, path, body=None):
        """Sends a request and returns the answer. A body that is no bytes is sent as JSON."""
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        request = botocore.awsrequest.AWSRequest(method, self.endpoint + path, data=data)
        if data is not None:
            request.headers["Content-Type"] = "application/json"
        self.signer.add_auth(request)
        self.connection.request(method, path, data, dict(request.headers.items()))
        answer = self.connection.getresponse()
        self.sent += 1
        return Answer(answer.status, answer.headers, answer.read())

    def close(self):
        """Closes the connection."""
        self.connection.close()
