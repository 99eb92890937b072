"""Requests that no client sends. Each is refused with the right code, and nothing is changed."""

import datetime
import json
import urllib.parse

import pytest

import kinds
import wire
from kinds import BLUE, GATEWAY, ROUTER, SERVICE, photograph

MEBIBYTE = 1 << 20
VALID = {"virtualNodeName": "x", "spec": {}}


@pytest.fixture
def unchanged(client, mesh):
    """The name of a furnished mesh which the test must leave as it was."""
    before = photograph(client, mesh)
    yield mesh
    assert photograph(client, mesh) == before


def check_refused(answer, status, code, *said):
    """Checks an error's status, code, form, and that its text says what it should."""
    assert (answer.status, answer.code) == (status, code), answer.body
    assert answer.headers["Content-Type"] == "application/json"
    assert wire.UUID.fullmatch(answer.headers["x-amzn-RequestId"])
    assert set(json.loads(answer.body)) == {"message"}
    for words in said:
        assert words in answer.message


def nodes(mesh):
    """The path of a mesh's virtual nodes."""
    return f"/v20190125/meshes/{mesh}/virtualNodes"


def test_signed_request_works(server, mesh):
    """All else here would prove nothing if this did not."""
    answer = wire.send(server, "PUT", nodes(mesh), VALID)
    assert answer.status == 200, answer.body
    body = json.loads(answer.body)
    assert set(body) == {"meshName", "virtualNodeName", "metadata", "spec", "status"}, "the object is not wrapped"


def test_arn_that_is_not_encoded(server, mesh):
    """It is signed as if it were."""
    arn = f"arn:aws:appmesh:us-east-1:000000000001:mesh/{mesh}"
    headers = wire.signature(server, "GET", "/v20190125/tags?resourceArn=" + urllib.parse.quote(arn, safe=""), None, {})
    answer = wire.send(server, "GET", f"/v20190125/tags?resourceArn={arn}", None, headers, sign=False)
    assert (answer.status, json.loads(answer.body)) == (200, {"tags": []})


@pytest.mark.parametrize(("size", "status"), [(MEBIBYTE, 200), (MEBIBYTE + 1, 413), (4 * MEBIBYTE, 413)])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_body_size(server, client, mesh, size, status, chunked):
    before = photograph(client, mesh)
    body = json.dumps(VALID).encode().ljust(size)
    answer = wire.send(server, "PUT", nodes(mesh), body, chunked=chunked)
    if status == 200:
        assert answer.status == 200, answer.body
        return
    check_refused(answer, 413, "RequestEntityTooLargeException", "1048576")
    assert photograph(client, mesh) == before


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/v20190125"),
        ("GET", "/v20190125/nothing"),
        ("PUT", "/meshes"),
        ("GET", "/v20190125/meshes/"),
        ("GET", "//v20190125/meshes"),
        ("POST", "/v20190125/meshes"),
        ("DELETE", "/v20190125/meshes"),
        ("HEAD", "/v20190125/meshes"),
        ("GET", "/v20190125/meshes/M/virtualNode/blue"),
        ("GET", "/v20190125/meshes/M/virtualRouters/router/routes"),
        ("PUT", "/v20190125/meshes/M/virtualNodes/blue/more"),
    ],
)
@pytest.mark.parametrize("sign", [True, False], ids=["signed", "unsigned"])
def test_unknown_path(server, unchanged, method, path, sign):
    answer = wire.send(server, method, path.replace("M", unchanged, 1), b"{}" if method == "PUT" else None, sign=sign)
    if method == "HEAD":
        assert (answer.status, answer.code) == (404, "UnknownOperationException")
    else:
        check_refused(answer, 404, "UnknownOperationException")


def test_path_that_cannot_be_read(server, unchanged):
    assert wire.send(server, "DELETE", f"{nodes(unchanged)}/{BLUE}%zz", None, sign=False).status == 400


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"virtualNodeName":"x","spec":{}',
        b'{"virtualNodeName":"x","spec":{}}}',
        b"not JSON",
        b'{"virtualNodeName":"x",}',
        b"\xff\xfe",
        b'{"virtualNodeName":"\xff","spec":{}}',
        b"[]",
        b'"x"',
        b"null",
        b"7",
        b"",
        b'{"virtualNodeName":"x","spec":{}} {}',
        b"{'virtualNodeName':'x'}",
    ],
)
def test_invalid_json(server, unchanged, body):
    check_refused(wire.send(server, "PUT", nodes(unchanged), body), 400, "BadRequestException", "body")


def listener(**changed):
    """A virtual node whose one listener differs from a valid one."""
    return {
        "virtualNodeName": "x",
        "spec": {
            "listeners": [{"portMapping": {"port": 80, "protocol": "http"}, **changed}],
            "serviceDiscovery": {"dns": {"hostname": "h"}},
        },
    }


# A body for CreateVirtualNode and the field that the refusal must name.
WRONG_FIELDS = [
    ({"spec": {}}, "virtualNodeName"),
    ({"virtualNodeName": "x"}, "spec"),
    ({"virtualNodeName": None, "spec": {}}, "virtualNodeName"),
    ({"virtualNodeName": 5, "spec": {}}, "virtualNodeName"),
    ({"virtualNodeName": "", "spec": {}}, "virtualNodeName"),
    ({"virtualNodeName": "a/b", "spec": {}}, "virtualNodeName"),
    ({"virtualNodeName": "..", "spec": {}}, "virtualNodeName"),
    ({"virtualNodeName": "x", "spec": []}, "spec"),
    ({"virtualNodeName": "x", "spec": "{}"}, "spec"),
    ({"virtualNodeName": "x", "spec": {"listeners": {}}}, "spec.listeners"),
    ({"virtualNodeName": "x", "spec": {"listeners": [None]}}, "spec.listeners[0]"),
    ({"virtualNodeName": "x", "spec": {"listeners": [{}]}}, "spec.listeners[0].portMapping"),
    ({"virtualNodeName": "x", "spec": {"backends": ["b"]}}, "spec.backends[0]"),
    ({"virtualNodeName": "x", "spec": {"backends": [{"virtualService": {}}]}}, "spec.backends[0].virtualService.virtualServiceName"),
    ({"virtualNodeName": "x", "spec": {"serviceDiscovery": {}}}, "spec.serviceDiscovery"),
    (
        {
            "virtualNodeName": "x",
            "spec": {"serviceDiscovery": {"dns": {"hostname": "h"}, "awsCloudMap": {"namespaceName": "n", "serviceName": "s"}}},
        },
        "spec.serviceDiscovery",
    ),
    (listener(portMapping={"port": "80", "protocol": "http"}), "spec.listeners[0].portMapping.port"),
    (listener(portMapping={"port": 80.5, "protocol": "http"}), "spec.listeners[0].portMapping.port"),
    (listener(portMapping={"port": True, "protocol": "http"}), "spec.listeners[0].portMapping.port"),
    (listener(portMapping={"port": 0, "protocol": "http"}), "spec.listeners[0].portMapping.port"),
    (listener(portMapping={"port": 1 << 70, "protocol": "http"}), "spec.listeners[0].portMapping.port"),
    (listener(portMapping={"port": 80, "protocol": "HTTP"}), "spec.listeners[0].portMapping.protocol"),
    (listener(portMapping={"port": 80, "protocol": 1}), "spec.listeners[0].portMapping.protocol"),
    (listener(tls={"mode": "STRICT", "certificate": {}}), "spec.listeners[0].tls.certificate"),
    (
        listener(
            healthCheck={"healthyThreshold": 11, "intervalMillis": 5000, "protocol": "http", "timeoutMillis": 2000, "unhealthyThreshold": 2}
        ),
        "spec.listeners[0].healthCheck.healthyThreshold",
    ),
    (
        {
            "virtualNodeName": "x",
            "spec": {
                "backendDefaults": {"clientPolicy": {"tls": {"enforce": "yes", "validation": {"trust": {"sds": {"secretName": "s"}}}}}}
            },
        },
        "spec.backendDefaults.clientPolicy.tls.enforce",
    ),
    ({**VALID, "tags": {"k": "v"}}, "tags"),
    ({**VALID, "tags": [{"key": "k", "value": 1}]}, "tags[0].value"),
    ({**VALID, "tags": [{"key": "", "value": "v"}]}, "tags[0].key"),
    ({**VALID, "tags": [{"key": "k", "value": "v" * 257}]}, "tags[0].value"),
    ({**VALID, "tags": [{"key": "aws:k", "value": "v"}]}, "tags[0].key"),
    ({**VALID, "clientToken": 7}, "clientToken"),
    ({**VALID, "clientToken": "a b"}, "clientToken"),
]


@pytest.mark.parametrize(("body", "field"), WRONG_FIELDS, ids=[f"{i}-{field}" for i, (_, field) in enumerate(WRONG_FIELDS)])
def test_wrong_field(server, unchanged, body, field):
    check_refused(wire.send(server, "PUT", nodes(unchanged), body), 400, "BadRequestException", field)


def weights(*targets, **more):
    """A route's spec, with the given targets."""
    return {"httpRoute": {"action": {"weightedTargets": list(targets)}, "match": {"prefix": "/"}, **more}}


# Updates of other kinds: a path below the mesh's, a spec, the field.
WRONG_UPDATES = [
    (f"virtualRouters/{ROUTER}", {"listeners": [{"portMapping": 80}]}, "spec.listeners[0].portMapping"),
    (
        f"virtualServices/{SERVICE}",
        {"provider": {"virtualNode": {"virtualNodeName": "a"}, "virtualRouter": {"virtualRouterName": "b"}}},
        "spec.provider",
    ),
    (
        f"virtualGateways/{GATEWAY}",
        {"listeners": [{"portMapping": {"port": 80, "protocol": "tcp"}}]},
        "spec.listeners[0].portMapping.protocol",
    ),
    (f"virtualGateways/{GATEWAY}", {}, "spec.listeners"),
    (f"virtualRouter/{ROUTER}/routes/r", {}, "spec"),
    (f"virtualRouter/{ROUTER}/routes/r", weights(), "spec.httpRoute.action.weightedTargets"),
    (f"virtualRouter/{ROUTER}/routes/r", weights(*[{"virtualNode": BLUE, "weight": 1}] * 11), "spec.httpRoute.action.weightedTargets"),
    (f"virtualRouter/{ROUTER}/routes/r", weights({"virtualNode": BLUE, "weight": 101}), "spec.httpRoute.action.weightedTargets[0].weight"),
    (f"virtualRouter/{ROUTER}/routes/r", weights({"virtualNode": BLUE}), "spec.httpRoute.action.weightedTargets[0].weight"),
    (
        f"virtualRouter/{ROUTER}/routes/r",
        weights({"virtualNode": BLUE, "weight": 1}, match={"prefix": "no-slash"}),
        "spec.httpRoute.match.prefix",
    ),
    (f"virtualRouter/{ROUTER}/routes/r", {**weights({"virtualNode": BLUE, "weight": 1}), "priority": 1001}, "spec.priority"),
    (f"virtualGateway/{GATEWAY}/gatewayRoutes/g", {"httpRoute": {"match": {"prefix": "/"}, "action": {}}}, "spec.httpRoute.action.target"),
    ("", {"egressFilter": {"type": "ALLOW"}}, "spec.egressFilter.type"),
]


@pytest.mark.parametrize(("path", "spec", "field"), WRONG_UPDATES, ids=[f"{i}-{field}" for i, (_, _, field) in enumerate(WRONG_UPDATES)])
def test_wrong_update(server, unchanged, path, spec, field):
    whole = f"/v20190125/meshes/{unchanged}/{path}".rstrip("/")
    check_refused(wire.send(server, "PUT", whole, {"spec": spec}), 400, "BadRequestException", field)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("limit=-1", "limit"),
        ("limit=1&limit=2", "limit"),
        ("limit=", "limit"),
        ("nextToken=%00", "nextToken"),
        ("nextToken=AAAA", "nextToken"),
        ("meshOwner=1", "meshOwner"),
    ],
)
def test_wrong_query(server, unchanged, query, field):
    check_refused(wire.send(server, "GET", f"{nodes(unchanged)}?{query}", None), 400, "BadRequestException", field)


@pytest.mark.parametrize(
    "arn",
    [
        "",
        "x",
        "mesh/x",
        "arn:aws:appmesh:us-east-1:000000000001:mesh",
        "arn:aws:appmesh:us-east-1:1:mesh/x",
        "arn:aws:appmesh:us-east-1:000000000001:mesh/x/virtualThing/y",
        "arn:aws:appmesh:eu-west-1:000000000001:mesh/x",
    ],
)
def test_wrong_arn(server, unchanged, arn):
    query = "resourceArn=" + urllib.parse.quote(arn, safe="")
    check_refused(wire.send(server, "GET", f"/v20190125/tags?{query}", None), 400, "BadRequestException", "resourceArn")
    check_refused(wire.send(server, "PUT", f"/v20190125/tag?{query}", {"tags": []}), 400, "BadRequestException", "resourceArn")
    check_refused(wire.send(server, "PUT", f"/v20190125/untag?{query}", {"tagKeys": []}), 400, "BadRequestException", "resourceArn")


def test_not_signed(server, unchanged):
    for method, path, body in [
        ("GET", "/v20190125/meshes", None),
        ("PUT", nodes(unchanged), VALID),
        ("DELETE", f"{nodes(unchanged)}/{BLUE}", None),
    ]:
        check_refused(wire.send(server, method, path, body, sign=False), 403, "MissingAuthenticationTokenException")


@pytest.mark.parametrize(
    "authorization", ["AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 Credential=x", "AWS4-HMAC-SHA256 Credential=a/b/c/d/e, SignedHeaders=host"]
)
def test_half_a_signature(server, unchanged, authorization):
    headers = {"Authorization": authorization, "X-Amz-Date": "20260101T000000Z"}
    check_refused(wire.send(server, "PUT", nodes(unchanged), VALID, headers, sign=False), 403, "IncompleteSignatureException")


def a_second_later(date):
    """A time in the form of X-Amz-Date."""
    form = "%Y%m%dT%H%M%SZ"
    return (datetime.datetime.strptime(date, form) + kinds.seconds(1)).strftime(form)


CHANGES = {
    "body": lambda r: r.update(body=r["body"].replace(b'"x"', b'"y"')),
    "method": lambda r: r.update(method="GET"),
    "path": lambda r: r.update(path=r["path"].replace("virtualNodes", "virtualServices")),
    "query": lambda r: r.update(path=r["path"] + "?meshOwner=000000000001"),
    "header": lambda r: r["headers"].update({"Content-Type": "text/plain"}),
    "header taken out": lambda r: r["headers"].pop("Content-Type"),
    "date": lambda r: r["headers"].update({"X-Amz-Date": a_second_later(r["headers"]["X-Amz-Date"])}),
    "host": lambda r: r["headers"].update({"Host": "localhost"}),
}


@pytest.mark.parametrize("what", CHANGES)
def test_changed_on_the_way(server, unchanged, what):
    """A signature covers the method, the path, the query, the signed headers and the body."""
    request = {"method": "PUT", "path": nodes(unchanged), "body": json.dumps(VALID).encode()}
    request["headers"] = wire.signature(server, **request, headers={"Content-Type": "application/json"})
    CHANGES[what](request)
    check_refused(wire.send(server, **request, sign=False), 403, "InvalidSignatureException")
