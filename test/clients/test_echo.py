"""What was sent is what comes back: nothing filled in, dropped or put in another order, but for two defaults."""

import pytest

from harness import bare
from kinds import (
    BLUE,
    GATEWAY,
    GATEWAY_ROUTE,
    GREEN,
    KINDS,
    MESH,
    NODE,
    OTHER,
    ROUTE,
    ROUTER,
    SERVICE,
    VIRTUAL_GATEWAY,
    VIRTUAL_ROUTER,
    VIRTUAL_SERVICE,
    http,
)

DROP_ALL = {"egressFilter": {"type": "DROP_ALL"}}
ALTERNATIVE_NAMES = {"match": {"exact": ["b.local", "a.local"]}}
FILE_TRUST = {"file": {"certificateChain": "/etc/ca.pem"}}
FILE_CERTIFICATE = {"file": {"certificateChain": "/etc/cert.pem", "privateKey": "/etc/key.pem"}}
AUTHORITY = "arn:aws:acm-pca:us-east-1:000000000001:certificate-authority/1"
HEALTH = {
    "healthyThreshold": 2,
    "intervalMillis": 5000,
    "protocol": "http",
    "timeoutMillis": 2000,
    "unhealthyThreshold": 10,
    "path": "/up?a=<b>&c",
}
ACCESS_LOG = {
    "accessLog": {"file": {"path": "/dev/stdout", "format": {"json": [{"key": "b", "value": "%B%"}, {"key": "a", "value": "<&>"}]}}}
}

FULL_NODE = {
    "listeners": [
        {
            "portMapping": {"port": 9000, "protocol": "http2"},
            "healthCheck": {**HEALTH, "port": 9000},
            "connectionPool": {"http2": {"maxRequests": 5}},
            "outlierDetection": {
                "baseEjectionDuration": {"unit": "s", "value": 1},
                "interval": {"unit": "ms", "value": 0},
                "maxEjectionPercent": 0,
                "maxServerErrors": 9007199254740993,  # not a whole number in floating point
            },
            "timeout": {"http2": {"idle": {"unit": "s", "value": 0}, "perRequest": {"unit": "s"}}},
            "tls": {
                "mode": "PERMISSIVE",
                "certificate": FILE_CERTIFICATE,
                "validation": {"trust": {"sds": {"secretName": "ca"}}, "subjectAlternativeNames": ALTERNATIVE_NAMES},
            },
        },
        {"portMapping": http(8080), "connectionPool": {"http": {"maxConnections": 1, "maxPendingRequests": 2}}},
    ],
    "serviceDiscovery": {"dns": {"hostname": "Z.Example.com.", "ipPreference": "IPv6_PREFERRED", "responseType": "ENDPOINTS"}},
    "backends": [
        {
            "virtualService": {
                "virtualServiceName": "z.local",
                "clientPolicy": {"tls": {"enforce": False, "validation": {"trust": FILE_TRUST}}},
            }
        },
        {"virtualService": {"virtualServiceName": "a.local"}},
    ],
    "backendDefaults": {
        "clientPolicy": {
            "tls": {
                "enforce": True,
                "ports": [443, 80],
                "certificate": {"sds": {"secretName": "own"}},
                "validation": {"trust": {"acm": {"certificateAuthorityArns": [AUTHORITY]}}, "subjectAlternativeNames": ALTERNATIVE_NAMES},
            }
        }
    },
    "logging": ACCESS_LOG,
}

FULL_HTTP_ROUTE = {
    "match": {
        "path": {"regex": "/a/[0-9]+<&>"},
        "method": "POST",
        "scheme": "https",
        "port": 8080,
        "headers": [
            {"name": "X-Testing1", "invert": False, "match": {"range": {"start": -1, "end": 7}}},
            {"name": "x-present"},
            {"name": "X-A", "invert": True, "match": {"suffix": "\u00fc \u2713"}},
        ],
        "queryParameters": [{"name": "q", "match": {"exact": ""}}, {"name": "p"}],
    },
    "retryPolicy": {
        "maxRetries": 0,
        "perRetryTimeout": {"unit": "ms", "value": 250},
        "httpRetryEvents": ["server-error", "client-error"],
        "tcpRetryEvents": ["connection-error"],
    },
    "timeout": {"idle": {"unit": "s"}, "perRequest": {"value": 15, "unit": "s"}},
    "action": {"weightedTargets": [{"virtualNode": GREEN, "weight": 0, "port": 8080}, {"virtualNode": BLUE, "weight": 100}]},
}

FULL_GRPC_ROUTE = {
    "match": {
        "serviceName": "a.B",
        "methodName": "C",
        "metadata": [{"name": "myMetadata", "match": {"prefix": "1"}}, {"name": "b", "invert": True}],
    },
    "retryPolicy": {"maxRetries": 2, "perRetryTimeout": {"unit": "s", "value": 1}, "grpcRetryEvents": ["unavailable", "cancelled"]},
    "timeout": {"perRequest": {"unit": "s", "value": 1}},
    "action": {"weightedTargets": [{"virtualNode": BLUE, "weight": 1}]},
}

FULL_GATEWAY = {
    "listeners": [
        {
            "portMapping": {"port": 443, "protocol": "grpc"},
            "healthCheck": {
                "healthyThreshold": 2,
                "intervalMillis": 300000,
                "protocol": "http2",
                "timeoutMillis": 60000,
                "unhealthyThreshold": 2,
                "port": 443,
            },
            "connectionPool": {"grpc": {"maxRequests": 1}},
            "tls": {
                "mode": "STRICT",
                "certificate": {"acm": {"certificateArn": "arn:aws:acm:us-east-1:000000000001:certificate/1"}},
                "validation": {"trust": FILE_TRUST, "subjectAlternativeNames": ALTERNATIVE_NAMES},
            },
        }
    ],
    "backendDefaults": {"clientPolicy": {"tls": {"validation": {"trust": {"sds": {"secretName": "ca"}}}, "ports": []}}},
    "logging": {"accessLog": {"file": {"path": "/var/log/a", "format": {"text": '%REQ(:METHOD)% <b>&\t"q" \\ \u2028\n'}}}},
}


def target(service, **more):
    """The action of a gateway route."""
    return {"target": {"virtualService": {"virtualServiceName": service}, **more}}


# A spec of each kind that uses all its members or nearly, and those at the edge of what is valid.
SPECS = [
    (MESH, {"egressFilter": {"type": "ALLOW_ALL"}, "serviceDiscovery": {"ipPreference": "IPv4_ONLY"}}),
    (NODE, {}),
    (NODE, {"listeners": [], "backends": []}),
    (NODE, FULL_NODE),
    (
        NODE,
        {
            "serviceDiscovery": {
                "awsCloudMap": {
                    "namespaceName": "n",
                    "serviceName": "s",
                    "attributes": [{"key": "z", "value": "1"}, {"key": "a", "value": "x y"}],
                }
            },
            "listeners": [{"portMapping": {"port": 65535, "protocol": "tcp"}, "timeout": {"tcp": {"idle": {"unit": "ms", "value": 1}}}}],
        },
    ),
    (VIRTUAL_ROUTER, {"listeners": [{"portMapping": {"port": 9, "protocol": "grpc"}}, {"portMapping": {"port": 1, "protocol": "tcp"}}]}),
    (ROUTE, {"priority": 0, "httpRoute": FULL_HTTP_ROUTE}),
    (ROUTE, {"priority": 1000, "http2Route": FULL_HTTP_ROUTE}),
    (ROUTE, {"grpcRoute": FULL_GRPC_ROUTE}),
    (ROUTE, {"grpcRoute": {"match": {}, "action": {"weightedTargets": [{"virtualNode": BLUE, "weight": 1}]}}}),
    (
        ROUTE,
        {"tcpRoute": {"action": {"weightedTargets": [{"virtualNode": BLUE, "weight": 1}]}, "timeout": {"idle": {"unit": "s", "value": 0}}}},
    ),
    (VIRTUAL_SERVICE, {}),
    (VIRTUAL_SERVICE, {"provider": {"virtualNode": {"virtualNodeName": GREEN}}}),
    (VIRTUAL_GATEWAY, FULL_GATEWAY),
    (
        GATEWAY_ROUTE,
        {
            "priority": 7,
            "httpRoute": {
                "match": {
                    "prefix": "/a/",
                    "hostname": {"suffix": ".example.com"},
                    "method": "GET",
                    "headers": [{"name": "A", "match": {"exact": "<"}}],
                },
                "action": {**target(SERVICE), "rewrite": {"prefix": {"value": "/b/"}, "hostname": {"defaultTargetHostname": "DISABLED"}}},
            },
        },
    ),
    (
        GATEWAY_ROUTE,
        {"http2Route": {"match": {"port": 8080}, "action": {**target(OTHER, port=8080), "rewrite": {"path": {"exact": "/x"}}}}},
    ),
    (
        GATEWAY_ROUTE,
        {
            "grpcRoute": {
                "match": {"serviceName": "a.B", "hostname": {"exact": "h"}, "metadata": [{"name": "M"}]},
                "action": target(SERVICE),
            }
        },
    ),
]


@pytest.mark.parametrize(("kind", "spec"), SPECS, ids=[f"{kind}-{i}" for i, (kind, _) in enumerate(SPECS)])
def test_spec_comes_back(client, mesh, kind, spec):
    if kind.parent:  # routes of every type fit what has no listeners
        for name in (BLUE, GREEN):
            client.update_virtual_node(meshName=mesh, virtualNodeName=name, spec={})
        client.update_virtual_router(meshName=mesh, virtualRouterName=ROUTER, spec={})
        client.update_virtual_gateway(meshName=mesh, virtualGatewayName=GATEWAY, spec={"listeners": []})
    name = f"{mesh}-x" if kind is MESH else "x"
    assert kind.call(client, "create", **kind.at(mesh, name), spec=spec)["spec"] == spec
    assert kind.call(client, "describe", **kind.at(mesh, name))["spec"] == spec
    kind.call(client, "update", **kind.at(mesh, name), spec=kind.changed)
    assert kind.call(client, "update", **kind.at(mesh, name), spec=spec)["spec"] == spec, "an update replaces the whole spec"
    assert kind.call(client, "describe", **kind.at(mesh, name))["spec"] == spec
    assert kind.call(client, "delete", **kind.at(mesh, name))["spec"] == spec


def test_every_kind_is_among_the_specs():
    assert {str(kind) for kind, _ in SPECS} == {str(kind) for kind in KINDS}


@pytest.mark.parametrize(
    "given", [{}, {"spec": {}}, {"spec": {"serviceDiscovery": {"ipPreference": "IPv6_ONLY"}}}], ids=["none", "empty", "other"]
)
def test_default_egress_filter(client, mesh, given):
    """The first default that is written back."""
    name, expected = f"{mesh}-x", {**given.get("spec", {}), **DROP_ALL}
    assert bare(client.create_mesh(meshName=name, **given))["spec"] == expected
    assert bare(client.describe_mesh(meshName=name))["spec"] == expected
    client.update_mesh(meshName=name, spec=MESH.changed)
    assert bare(client.update_mesh(meshName=name, **given))["spec"] == expected
    assert bare(client.describe_mesh(meshName=name))["spec"] == expected


@pytest.mark.parametrize("kind", [NODE, VIRTUAL_GATEWAY])
def test_default_health_check_port(client, mesh, kind):
    """The second: a health check without a port is given the listener's."""
    spec = {"listeners": [{"portMapping": http(8123), "healthCheck": HEALTH}]}
    if kind is NODE:
        spec["serviceDiscovery"] = NODE.spec["serviceDiscovery"]
    expected = {**spec, "listeners": [{"portMapping": http(8123), "healthCheck": {**HEALTH, "port": 8123}}]}
    assert kind.call(client, "create", **kind.at(mesh, "x"), spec=spec)["spec"] == expected
    assert kind.call(client, "describe", **kind.at(mesh, "x"))["spec"] == expected
    kind.call(client, "update", **kind.at(mesh, "x"), spec=kind.changed)
    assert kind.call(client, "update", **kind.at(mesh, "x"), spec=spec)["spec"] == expected
    assert kind.call(client, "describe", **kind.at(mesh, "x"))["spec"] == expected
