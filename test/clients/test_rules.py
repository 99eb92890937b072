"""Rules between objects: a route fits its router and its targets, a gateway route its gateway and what provides its service.

They hold whichever of the two is written last, and when both are written at once. The
texts in quotes are App Mesh's own, which people look for.
"""

import concurrent.futures

import botocore.exceptions
import pytest

import kinds
from kinds import KINDS

HTTP_KINDS = ("http", "http2")
PROTOCOLS = ("http", "http2", "grpc", "tcp")
GATEWAY_PROTOCOLS = ("http", "http2", "grpc")


def listeners(*ports):
    """Listeners, each given as "http:8080"."""
    return [{"portMapping": {"protocol": p.partition(":")[0], "port": int(p.partition(":")[2])}} for p in ports]


def optional(**members):
    """The members that are not None."""
    return {k: v for k, v in members.items() if v is not None}


def route(protocol, *targets, port=None):
    """A route's spec. Targets are "blue", or "blue:8080" with a port."""
    weighted = [
        {"virtualNode": name, "weight": 1, **({"port": int(target_port)} if target_port else {})}
        for name, _, target_port in (t.partition(":") for t in targets)
    ]
    match = {**({"prefix": "/"} if protocol in HTTP_KINDS else {}), **optional(port=port)}
    return {f"{protocol}Route": {"action": {"weightedTargets": weighted}, "match": match}}


def gateway_route(protocol, service, port=None, target_port=None):
    """A gateway route's spec."""
    target = {"virtualService": {"virtualServiceName": service}, **optional(port=target_port)}
    return {f"{protocol}Route": {"action": {"target": target}, "match": optional(port=port)}}


class Net:
    """A mesh of its own, and short ways to write what is in it."""

    def __init__(self, client):
        self.client, self.mesh = client, kinds.unique()
        client.create_mesh(meshName=self.mesh)

    def write(self, title, spec, **names):
        """Creates an object, or updates it if it is there."""
        kind = next(k for k in KINDS if k.title == title)
        names = {"meshName": self.mesh, **names}
        try:
            kind.call(self.client, "describe", **names)
        except self.client.exceptions.NotFoundException:
            return kind.call(self.client, "create", **names, spec=spec)
        return kind.call(self.client, "update", **names, spec=spec)

    def node(self, name, *ports):
        """A virtual node with these listeners."""
        found = {"serviceDiscovery": {"dns": {"hostname": f"{name}.local"}}} if ports else {}
        return self.write("VirtualNode", {"listeners": listeners(*ports), **found}, virtualNodeName=name)

    def router(self, name, *ports):
        """A virtual router with these listeners."""
        return self.write("VirtualRouter", {"listeners": listeners(*ports)}, virtualRouterName=name)

    def gateway(self, name, *ports):
        """A virtual gateway with these listeners."""
        return self.write("VirtualGateway", {"listeners": listeners(*ports)}, virtualGatewayName=name)

    def service(self, name, node=None, router=None):
        """A virtual service with that provider, or none."""
        spec = {}
        if node:
            spec = {"provider": {"virtualNode": {"virtualNodeName": node}}}
        if router:
            spec = {"provider": {"virtualRouter": {"virtualRouterName": router}}}
        return self.write("VirtualService", spec, virtualServiceName=name)

    def route(self, router, name, protocol, *targets, **ports):
        """A route."""
        return self.write("Route", route(protocol, *targets, **ports), virtualRouterName=router, routeName=name)

    def gateway_route(self, gateway, name, protocol, service, **ports):
        """A gateway route."""
        return self.write("GatewayRoute", gateway_route(protocol, service, **ports), virtualGatewayName=gateway, gatewayRouteName=name)

    def contents(self):
        """All that there is in the mesh."""
        found = []
        for kind in KINDS[1:]:
            above = [{}]
            if kind.parent:
                parent = next(k for k in KINDS if k.title == kind.parent)
                above = [{parent.name_member: r[parent.name_member]} for r in self.list(parent)]
            for place in above:
                for ref in self.list(kind, **place):
                    names = {"meshName": self.mesh, **place, kind.name_member: ref[kind.name_member]}
                    found.append(kind.call(self.client, "describe", **names))
        return found

    def list(self, kind, **place):
        """The objects of a kind in a place."""
        return getattr(self.client, f"list_{kind.plural[0]}")(meshName=self.mesh, **place)[kind.plural[1]]

    def refused(self, call, *args, **kwargs):
        """The text that a write is refused with. It changes nothing."""
        before = self.contents()
        with pytest.raises(self.client.exceptions.BadRequestException) as caught:
            call(*args, **kwargs)
        assert self.contents() == before
        return caught.value.response["Error"]["Message"]


@pytest.fixture
def net(client):
    """A mesh that only one test uses."""
    return Net(client)


# ---- the type of a route is the protocol of its listeners (12)


@pytest.mark.parametrize("above", PROTOCOLS)
def test_type_and_router(net, above):
    net.node("any")
    net.router("r", f"{above}:8080")
    for protocol in PROTOCOLS:
        for name, port in ((f"{protocol}", None), (f"{protocol}-port", 8080)):
            if protocol == above:
                net.route("r", name, protocol, "any", port=port)
                continue
            text = net.refused(net.route, "r", name, protocol, "any", port=port)
            assert text.startswith(f"spec.{protocol}Route ")
            assert f"{above}Route" in text
    for protocol in PROTOCOLS:
        if protocol != above:
            assert net.refused(net.route, "r", above, protocol, "any").startswith(f"spec.{protocol}Route "), "nor by an update"


@pytest.mark.parametrize("below", PROTOCOLS)
def test_type_and_target(net, below):
    net.node("any")
    net.node("n", f"{below}:8080")
    net.router("open")
    for protocol in PROTOCOLS:
        for target in ("n", "n:8080"):
            if protocol == below:
                net.route("open", protocol, protocol, "any", target)
                continue
            text = net.refused(net.route, "open", protocol, protocol, "any", target)
            assert text.startswith(f"spec.{protocol}Route.action.weightedTargets[1] "), "the second of two targets"
            assert below in text


@pytest.mark.parametrize("above", GATEWAY_PROTOCOLS)
def test_type_and_gateway(net, above):
    net.service("s")
    net.gateway("g", f"{above}:8080")
    for protocol in GATEWAY_PROTOCOLS:
        if protocol == above:
            net.gateway_route("g", protocol, protocol, "s")
            net.gateway_route("g", protocol, protocol, "s", port=8080)
            continue
        text = net.refused(net.gateway_route, "g", protocol, protocol, "s")
        assert text.startswith(f"spec.{protocol}Route ")
        assert f"{above}Route" in text


def test_router_changes_under_routes(net):
    """Neither the protocol of a listener nor the listener itself goes away while a route needs it."""
    net.node("any")
    net.router("r", "http:8080", "tcp:9090")
    net.route("r", "web", "http", "any", port=8080)
    net.route("r", "raw", "tcp", "any", port=9090)
    for ports in (("grpc:8080", "tcp:9090"), ("http:8081", "tcp:9090"), ("tcp:9090",)):
        text = net.refused(net.router, "r", *ports)
        assert text.startswith("spec.listeners ")
        assert "[web]" in text
        assert "http" in text
    net.router("r", "http:8080", "tcp:9090", "grpc:7070")
    net.client.delete_route(meshName=net.mesh, virtualRouterName="r", routeName="web")
    net.router("r", "tcp:9090")


def test_gateway_changes_under_routes(net):
    net.service("s")
    net.gateway("g", "http:8080", "grpc:9090")
    net.gateway_route("g", "web", "http", "s", port=8080)
    for ports in (("http2:8080", "grpc:9090"), ("grpc:9090",)):
        text = net.refused(net.gateway, "g", *ports)
        assert text.startswith("spec.listeners ")
        assert "[web]" in text
    net.client.delete_gateway_route(meshName=net.mesh, virtualGatewayName="g", gatewayRouteName="web")
    net.gateway("g", "grpc:9090")


# ---- who has several listeners is led to by port (13 to 17)


def test_route_of_router_with_several(net):
    net.node("any")
    net.router("r", "http:8080", "http:9090", "grpc:7070")
    text = net.refused(net.route, "r", "web", "http", "any")
    assert text.startswith("spec.httpRoute.match.port ")
    assert "Route must define a port match criteria if the Virtual Router has multiple listeners" in text
    text = net.refused(net.route, "r", "web", "http", "any", port=1234)
    assert text.startswith("spec.httpRoute.match.port ")
    assert "8080, 9090, 7070" in text
    assert net.refused(net.route, "r", "web", "http", "any", port=7070).startswith("spec.httpRoute ")
    net.route("r", "web", "http", "any", port=9090)
    assert "Route must define a port match criteria" in net.refused(net.route, "r", "web", "http", "any"), "nor by an update"


def test_router_gets_several(net):
    net.node("any")
    net.router("r", "http:8080")
    names = [f"r{i}" for i in range(7)]
    for name in names:
        net.route("r", name, "http", "any")
    net.route("r", "with", "http", "any", port=8080)
    text = net.refused(net.router, "r", "http:8080", "http:9090")
    assert text.startswith("spec.listeners ")
    assert (
        "All Routes for this Virtual Router must define a port match before adding multiple listeners to this Virtual Router. "
        "7 Route(s) are missing port. Listing up to 5 route names: [r0, r1, r2, r3, r4]"
    ) in text
    for name in names[:-1]:
        net.route("r", name, "http", "any", port=8080)
    text = net.refused(net.router, "r", "http:8080", "http:9090")
    assert "1 Route(s) are missing port. Listing up to 5 route names: [r6]" in text
    net.route("r", "r6", "http", "any", port=8080)
    net.router("r", "http:8080", "http:9090")


def test_target_with_several(net):
    net.node("one", "http:8080")
    net.node("two", "http:8080", "http:9090", "tcp:7070")
    net.router("r", "http:80")
    text = net.refused(net.route, "r", "web", "http", "one", "two")
    assert text.startswith("spec.httpRoute.action.weightedTargets[1].port ")
    assert "8080, 9090, 7070" in text
    assert net.refused(net.route, "r", "web", "http", "one:1234").startswith("spec.httpRoute.action.weightedTargets[0].port ")
    assert net.refused(net.route, "r", "web", "http", "two:1234").startswith("spec.httpRoute.action.weightedTargets[0].port ")
    assert net.refused(net.route, "r", "web", "http", "two:7070").startswith("spec.httpRoute.action.weightedTargets[0] ")
    both = net.refused(net.route, "r", "web", "http", "two", "two", port=1234)
    assert [part.split(" ")[0] for part in both.split("; ")] == [
        "spec.httpRoute.match.port",
        "spec.httpRoute.action.weightedTargets[0].port",
        "spec.httpRoute.action.weightedTargets[1].port",
    ], "all at once"
    net.route("r", "web", "http", "one:8080", "two:9090", port=80)
    net.route("r", "web", "http", "one", "two:9090", "two:8080")
    assert net.refused(net.route, "r", "web", "http", "two").startswith("spec.httpRoute.action.weightedTargets[0].port ")


def test_target_gets_several(net):
    net.node("n", "http:8080")
    for router in ("r", "q"):
        net.router(router, "http:80")
    net.route("r", "a", "http", "n")
    net.route("r", "b", "http", "n:8080", "n")
    net.route("q", "c", "http", "n:8080")
    text = net.refused(net.node, "n", "http:8080", "http:9090")
    assert text.startswith("spec.listeners ")
    assert "2 Route(s) are missing port. Listing up to 5 route names: [r/a, r/b]" in text
    net.route("r", "a", "http", "n:8080")
    assert "1 Route(s) are missing port" in net.refused(net.node, "n", "http:8080", "http:9090")
    net.client.delete_route(meshName=net.mesh, virtualRouterName="r", routeName="b")
    net.node("n", "http:8080", "http:9090")


def test_gateway_with_several(net):
    net.service("s")
    net.gateway("g", "http:8080")
    net.gateway_route("g", "web", "http", "s")
    text = net.refused(net.gateway, "g", "http:8080", "http:9090")
    assert text.startswith("spec.listeners ")
    assert "1 Gateway Route(s) are missing port. Listing up to 5 gateway route names: [web]" in text
    net.gateway_route("g", "web", "http", "s", port=8080)
    net.gateway("g", "http:8080", "http:9090")
    for port in (None, 1234):
        assert net.refused(net.gateway_route, "g", "more", "http", "s", port=port).startswith("spec.httpRoute.match.port ")
        assert net.refused(net.gateway_route, "g", "web", "http", "s", port=port).startswith("spec.httpRoute.match.port ")
    net.gateway_route("g", "more", "http", "s", port=9090)


@pytest.mark.parametrize("provider", ["node", "router"])
def test_provider_with_several(net, provider):
    make = getattr(net, provider)
    make("two", "http:8080", "http:9090")
    net.service("s", **{provider: "two"})
    net.gateway("g", "http:80")
    for port in (None, 1234):
        text = net.refused(net.gateway_route, "g", "web", "http", "s", target_port=port)
        assert text.startswith("spec.httpRoute.action.target.port ")
        assert "8080, 9090" in text
    net.gateway_route("g", "web", "http", "s", target_port=9090)
    net.gateway_route("g", "web", "http", "s", target_port=8080, port=80)
    assert net.refused(net.gateway_route, "g", "web", "http", "s").startswith("spec.httpRoute.action.target.port "), "nor by an update"


@pytest.mark.parametrize("provider", ["node", "router"])
def test_provider_gets_several(net, provider):
    """The listeners come later, or the service gets a provider that has them."""
    make = getattr(net, provider)
    make("one", "http:8080")
    make("two", "http:8080", "http:9090")
    net.service("s", **{provider: "one"})
    net.gateway("g", "http:80")
    net.gateway_route("g", "web", "http", "s")
    text = net.refused(make, "one", "http:8080", "http:9090")
    assert text.startswith("spec.listeners ")
    assert "1 Gateway Route(s) are missing port" in text
    text = net.refused(net.service, "s", **{provider: "two"})
    member = "virtualNode" if provider == "node" else "virtualRouter"
    assert text.startswith(f"spec.provider.{member}.{member}Name ")
    net.gateway_route("g", "web", "http", "s", target_port=8080)
    net.service("s", **{provider: "two"})
    make("one", "http:8080", "http:9090")


def test_both_at_once(net):
    """A route that names no port and a second listener race: one of them at most is there in the end."""
    net.node("any")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for i in range(40):
            router = f"r{i}"
            net.router(router, "http:8080")
            writes = [
                pool.submit(net.client.create_route, meshName=net.mesh, virtualRouterName=router, routeName="x", spec=route("http", "any")),
                pool.submit(
                    net.client.update_virtual_router,
                    meshName=net.mesh,
                    virtualRouterName=router,
                    spec={"listeners": listeners("http:8080", "http:9090")},
                ),
            ]
            failed = [w.exception() for w in writes]
            assert sum(f is None for f in failed) == 1, f"one of them is refused, these were: {failed}"
            refusal = next(f for f in failed if f)
            assert isinstance(refusal, botocore.exceptions.ClientError)
            assert refusal.response["Error"]["Code"] == "BadRequestException"
