"""The seven kinds of object, as one table, and a mesh furnished with what their specs refer to."""

import dataclasses
import datetime
import json
import re
import uuid


def http(port=8080):
    """A port mapping."""
    return {"port": port, "protocol": "http"}


def node(hostname, **more):
    """The spec of a virtual node with one listener."""
    return {"listeners": [{"portMapping": http()}], "serviceDiscovery": {"dns": {"hostname": hostname}}, **more}


def route(targets, **more):
    """The spec of an HTTP route with these weights."""
    weighted = [{"virtualNode": name, "weight": weight} for name, weight in targets.items()]
    return {"httpRoute": {"action": {"weightedTargets": weighted}, "match": {"prefix": "/"}, **more}}


def gateway_route(service, prefix="/"):
    """The spec of an HTTP gateway route."""
    return {"httpRoute": {"action": {"target": {"virtualService": {"virtualServiceName": service}}}, "match": {"prefix": prefix}}}


# What furnish puts into a mesh.
BLUE, GREEN, ROUTER, GATEWAY, SERVICE, OTHER = "blue", "green", "router", "gateway", "shop.local", "other.local"


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind: its names in the API and the clients, and two specs that are fit for a furnished mesh."""

    title: str  # as in CreateVirtualNode
    spec: dict
    changed: dict
    parent: str = ""  # the title of the kind that it lives in, if that is not the mesh
    furnished: tuple = ()  # the names of those that furnish makes

    def __str__(self):
        return self.snake

    @property
    def snake(self):
        """As in create_virtual_node."""
        return re.sub(r"(?<!^)([A-Z])", r"_\1", self.title).lower()

    @property
    def dashed(self):
        """As in create-virtual-node."""
        return self.snake.replace("_", "-")

    @property
    def member(self):
        """As ARNs and the CLI's output spell it: virtualNode."""
        return self.title[0].lower() + self.title[1:]

    @property
    def name_member(self):
        """virtualNodeName."""
        return self.member + "Name"

    @property
    def plural(self):
        """As in list_virtual_nodes and ListVirtualNodes: (virtual_nodes, virtualNodes)."""
        ending = "es" if self.title == "Mesh" else "s"
        return self.snake + ending, self.member + ending

    def place(self, mesh):
        """The parameters that say where the kind's objects of a furnished mesh are."""
        if self.title == "Mesh":
            return {}
        parents = {"": {}, "VirtualRouter": {"virtualRouterName": ROUTER}, "VirtualGateway": {"virtualGatewayName": GATEWAY}}
        return {"meshName": mesh, **parents[self.parent]}

    def at(self, mesh, name):
        """The parameters that name one object."""
        return {**self.place(mesh), self.name_member: name}

    def arn(self, mesh, name, account, region):
        """The ARN of one object."""
        if self.title == "Mesh":
            return f"arn:aws:appmesh:{region}:{account}:mesh/{name}"
        above = {"": "", "VirtualRouter": f"virtualRouter/{ROUTER}/", "VirtualGateway": f"virtualGateway/{GATEWAY}/"}[self.parent]
        return f"arn:aws:appmesh:{region}:{account}:mesh/{mesh}/{above}{self.member}/{name}"

    def call(self, client, verb, **parameters):
        """Calls create, describe, update or delete and returns the object."""
        answer = getattr(client, f"{verb}_{self.snake}")(**parameters)
        return answer[self.member]

    def list(self, client, mesh, **parameters):
        """Calls list and returns the answer."""
        return getattr(client, f"list_{self.plural[0]}")(**self.place(mesh), **parameters)

    def pages(self, client, mesh, size):
        """Calls list through boto3's own paginator and returns the pages, each a list."""
        pages = client.get_paginator(f"list_{self.plural[0]}").paginate(**self.place(mesh), PaginationConfig={"PageSize": size})
        return [page[self.plural[1]] for page in pages]

    def all(self, client, mesh):
        """Returns all that list lists."""
        return [one for page in self.pages(client, mesh, 100) for one in page]

    def flags(self, mesh, name=None):
        """The parameters of place or at, as the CLI takes them."""
        where = self.place(mesh) if name is None else self.at(mesh, name)
        return [arg for k, v in where.items() for arg in ("--" + re.sub(r"([A-Z])", r"-\1", k).lower(), v)]


MESH = Kind("Mesh", {"egressFilter": {"type": "DROP_ALL"}}, {"egressFilter": {"type": "ALLOW_ALL"}})
NODE = Kind(
    "VirtualNode",
    node("one.local"),
    node("two.local", backends=[{"virtualService": {"virtualServiceName": "not-there.local"}}]),
    furnished=(BLUE, GREEN),
)
VIRTUAL_ROUTER = Kind(
    "VirtualRouter", {"listeners": [{"portMapping": http()}]}, {"listeners": [{"portMapping": http(9090)}]}, furnished=(ROUTER,)
)
ROUTE = Kind("Route", route({BLUE: 90, GREEN: 10}), route({BLUE: 0, GREEN: 100}), parent="VirtualRouter")
VIRTUAL_SERVICE = Kind(
    "VirtualService",
    {"provider": {"virtualRouter": {"virtualRouterName": ROUTER}}},
    {"provider": {"virtualNode": {"virtualNodeName": BLUE}}},
    furnished=(OTHER, SERVICE),
)
VIRTUAL_GATEWAY = Kind(
    "VirtualGateway", {"listeners": [{"portMapping": http()}]}, {"listeners": [{"portMapping": http(8088)}]}, furnished=(GATEWAY,)
)
GATEWAY_ROUTE = Kind("GatewayRoute", gateway_route(SERVICE), gateway_route(OTHER, "/other"), parent="VirtualGateway")

KINDS = [MESH, NODE, VIRTUAL_ROUTER, ROUTE, VIRTUAL_SERVICE, VIRTUAL_GATEWAY, GATEWAY_ROUTE]


def seconds(n):
    """A span of time."""
    return datetime.timedelta(seconds=n)


def unique(prefix="m"):
    """A name for a mesh that no other test has."""
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


# What furnish makes, in an order in which it can be made.
FURNITURE = [
    (NODE, BLUE, node(f"{BLUE}.local")),
    (NODE, GREEN, node(f"{GREEN}.local")),
    (VIRTUAL_ROUTER, ROUTER, VIRTUAL_ROUTER.spec),
    (VIRTUAL_GATEWAY, GATEWAY, VIRTUAL_GATEWAY.spec),
    (VIRTUAL_SERVICE, SERVICE, VIRTUAL_SERVICE.spec),
    (VIRTUAL_SERVICE, OTHER, {}),
]


def furnish(client, mesh):
    """Makes a mesh with all that the specs of the table refer to, and returns its name."""
    client.create_mesh(meshName=mesh)
    for kind, name, spec in FURNITURE:
        kind.call(client, "create", **kind.at(mesh, name), spec=spec)
    return mesh


def photograph(client, mesh):
    """All that there is in a furnished mesh: {ARN: (object, tags)}, and the names of all meshes."""
    objects = {}
    for kind in KINDS:
        for ref in kind.all(client, mesh):
            if ref["meshName"] == mesh:
                tags = client.list_tags_for_resource(resourceArn=ref["arn"])["tags"]
                objects[ref["arn"]] = kind.call(client, "describe", **kind.at(mesh, ref[kind.name_member])), tags
    return objects, [m["meshName"] for m in MESH.all(client, mesh)]


def compact(spec):
    """A spec as an argument of a command."""
    return json.dumps(spec, separators=(",", ":"))
