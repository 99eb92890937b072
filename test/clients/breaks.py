"""Ways to break one rule in a valid spec, and only that: those of the service model, found in the spec, and those beyond it, listed here.

Each says which field the refusal must name, and which parts of the spec it is about,
so that several can be put into one spec without one undoing another.
"""

import dataclasses

import boundcases
import documents
import modelreader
import randomspecs
from documents import DROP, get, put
from harness import ACCOUNT, REGION
from modelreader import Place, shape, spell

HTTP, GRPC, ALL = ("httpRoute", "http2Route"), ("grpcRoute",), ("httpRoute", "http2Route", "grpcRoute", "tcpRoute")
LISTENING = ("VirtualNode", "VirtualRouter", "VirtualGateway")
ROUTES = ("Route", "GatewayRoute")
IMPOSSIBLE = ["a/b", "a b", "é", "..", ".", "a\x00b"]


@dataclasses.dataclass
class Broken:
    """What was broken: the field that must be named, whether it is the model that forbids it, and the parts that it is about.

    A part is a place and whether all that is in it counts as well.
    """

    path: str
    parts: list
    model: bool = False
    what: str = ""

    def clashes(self, other):
        """Says whether the two are about the same part."""
        return any(_overlap(a, b) for a in self.parts for b in other.parts)


def _overlap(a, b):
    (one, one_deep), (two, two_deep) = a, b
    if len(one) > len(two):
        one, one_deep, two = two, two_deep, one
    return two[: len(one)] == one and (one_deep or (two_deep and one == two))


@dataclasses.dataclass(frozen=True)
class Rule:
    """A rule beyond the model: the specs that it is about, and how to break it."""

    number: int | None  # see NUMBERS
    titles: tuple
    types: tuple  # of routes
    breaks: object  # (maker, spec, place of the route or of the spec) -> Broken

    @property
    def name(self):
        """What breaks the rule."""
        return self.breaks.__name__


RULES = []

# The rules that App Mesh is known to have beyond its model are numbered, here as in the names of the rules below. Those from 12 to 16 are
# between objects (test_rules.py). The others say what is accepted and what is written back: those hold if every valid object comes back.
NUMBERS = {1, 4, 5, 7, 9, 11, 18, 19, 20, 21, 22, 23, 24, 25, 27, 28}


def rule(number, *titles, types=()):
    """Puts a function into the list of rules."""

    def add(function):
        RULES.append(Rule(number, titles, types, function))
        return function

    return add


def whole(*places):
    """Parts: the places with all that is in them."""
    return [(p, True) for p in places]


def only(*places):
    """Parts: the places, not what is in them."""
    return [(p, False) for p in places]


# ---- nodes, routers, services, gateways


def listener(maker, doc, title):
    """The place of a listener, which is added if there is none."""
    listeners = doc["spec"].setdefault("listeners", [])
    if not listeners:
        listeners.append(documents.least(shape(f"{title}Spec")["members"]["listeners"]["shape"], ("spec", "listeners"))[0])
        if title == "VirtualNode":
            doc["spec"]["serviceDiscovery"] = {"dns": {"hostname": "h"}}
    return "spec", "listeners", maker.random.randrange(len(listeners))


@rule(4, "VirtualNode")
def listener_without_discovery(maker, doc, title):
    """A listener that nobody finds."""
    listener(maker, doc, title)
    del doc["spec"]["serviceDiscovery"]
    return Broken("spec.serviceDiscovery", [*whole(("spec", "serviceDiscovery")), *only(("spec", "listeners"))])


@rule(5, "VirtualNode")
def discovery_without_listener(maker, doc, title):
    """Discovery of nothing."""
    listener(maker, doc, title)
    if maker.boolean():
        doc["spec"]["listeners"] = []
    else:
        del doc["spec"]["listeners"]
    return Broken("spec.serviceDiscovery", [*whole(("spec", "listeners")), *only(("spec", "serviceDiscovery"))])


def other_protocol(maker, doc, title, member):
    """Gives a listener's pool or timeout the member of another protocol."""
    at = listener(maker, doc, title)
    one = get(doc, at)
    of = shape(shape(shape(f"{title}Spec")["members"]["listeners"]["shape"])["member"]["shape"])["members"][member]["shape"]
    wrong = maker.random.choice([m for m in sorted(shape(of)["members"]) if m != one["portMapping"]["protocol"]])
    one[member] = {wrong: documents.least(shape(of)["members"][wrong]["shape"], (*at, member, wrong))}
    return Broken(spell((*at, member)), [*only((*at, member)), *whole((*at, "portMapping", "protocol"))])


@rule(7, "VirtualNode", "VirtualGateway")
def pool_of_another_protocol(maker, doc, title):
    """A connection pool that would have no effect."""
    return other_protocol(maker, doc, title, "connectionPool")


@rule(11, "VirtualNode")
def timeout_of_another_protocol(maker, doc, title):
    """A timeout that would have no effect."""
    return other_protocol(maker, doc, title, "timeout")


@rule(9, "VirtualNode", "VirtualGateway")
def check_of_another_port(maker, doc, title):
    """A health check that would check something else."""
    at = listener(maker, doc, title)
    one = get(doc, at)
    of = "HealthCheckPolicy" if title == "VirtualNode" else "VirtualGatewayHealthCheckPolicy"
    check = one.setdefault("healthCheck", documents.least(of, (*at, "healthCheck")))
    check["port"] = one["portMapping"]["port"] % 65535 + 1
    return Broken(
        spell((*at, "healthCheck", "port")),
        [*whole((*at, "healthCheck", "port"), (*at, "portMapping", "port")), *only((*at, "healthCheck"))],
    )


@rule(None, *LISTENING)
def port_twice(maker, doc, title):
    """Two listeners with one port: the second is named."""
    first = listener(maker, doc, title)
    listeners = doc["spec"]["listeners"]
    listeners.append({"portMapping": dict(get(doc, first)["portMapping"])})
    last = ("spec", "listeners", len(listeners) - 1)
    return Broken(spell((*last, "portMapping", "port")), [*whole((*first, "portMapping"), last), *only(first, ("spec", "listeners"))])


@rule(27, "VirtualNode")
def backend_twice(maker, doc, _):
    """One service as two backends, by its name or its ARN."""
    backends = doc["spec"].setdefault("backends", [])
    if not backends:
        backends.append({"virtualService": {"virtualServiceName": maker.backend()}})
    first = ("spec", "backends", maker.random.randrange(len(backends)))
    name = documents.backend_name(get(doc, first))
    if maker.boolean():
        name = f"arn:aws:appmesh:{REGION}:{ACCOUNT}:mesh/m/virtualService/{name}"
    backends.append({"virtualService": {"virtualServiceName": name}})
    last = ("spec", "backends", len(backends) - 1)
    return Broken(
        spell((*last, "virtualService", "virtualServiceName")),
        [*whole((*first, "virtualService", "virtualServiceName"), last), *only((*first, "virtualService"), first, ("spec", "backends"))],
    )


@rule(28, "VirtualNode")
def impossible_backend(maker, doc, _):
    """A backend that cannot be the name of a service."""
    backends = doc["spec"].setdefault("backends", [])
    at = ("spec", "backends", len(backends))
    backends.append({"virtualService": {"virtualServiceName": maker.random.choice(["", "..", "a\x00b", "n" * 256])}})
    return Broken(spell((*at, "virtualService", "virtualServiceName")), [*whole(at), *only(("spec", "backends"))])


@rule(None, "VirtualService")
def impossible_provider(maker, doc, _):
    """A provider that cannot be."""
    member = maker.random.choice(["virtualNode", "virtualRouter"])
    doc["spec"]["provider"] = {member: {f"{member}Name": maker.random.choice(IMPOSSIBLE)}}
    return Broken(f"spec.provider.{member}.{member}Name", whole(("spec", "provider")))


# ---- routes and gateway routes; place is the one type of route that the spec has


def route(doc):
    """The place of the one type of route that a spec has."""
    (kind,) = (k for k in ALL if k in doc["spec"])
    return "spec", kind


@rule(1, *ROUTES)
def no_type(_, doc, __):
    """A route of no type."""
    at = route(doc)
    put(doc, at, DROP)
    return Broken("spec", [*whole(*(("spec", kind) for kind in ALL)), *only(("spec",))])


@rule(1, *ROUTES)
def two_types(maker, doc, title):
    """A route of two types."""
    at = route(doc)
    of = modelreader.members(f"Create{title}")["spec"][1]
    other = maker.random.choice([k for k in randomspecs.EXCLUSIVE[of] if k != at[1]])
    doc["spec"].update(maker.spec(title, other) | dict(doc["spec"]))
    return Broken("spec", [*whole(("spec", other)), *only(at, ("spec",))])


@rule(18, "Route")
def no_weight(maker, doc, _):
    """A route that leads nowhere."""
    targets = (*route(doc), "action", "weightedTargets")
    for target in get(doc, targets):
        target["weight"] = 0
    return Broken(spell(targets), whole(targets))


@rule(None, "Route")
def impossible_target(maker, doc, _):
    """A target that cannot be."""
    targets = (*route(doc), "action", "weightedTargets")
    at = (*targets, maker.random.randrange(len(get(doc, targets))), "virtualNode")
    put(doc, at, maker.random.choice(IMPOSSIBLE))
    return Broken(spell(at), whole(at))


@rule(None, "GatewayRoute")
def impossible_service(maker, doc, _):
    """A service that cannot be."""
    at = (*route(doc), "action", "target", "virtualService", "virtualServiceName")
    put(doc, at, maker.random.choice(["..", "a\x00b", "\n"]))
    return Broken(spell(at), whole(at))


def match(doc, **members):
    """Replaces how a route matches paths. It returns the place of the match, and the parts that this is about."""
    at = (*route(doc), "match")
    value = get(doc, at)
    for member in ("path", "prefix"):
        value.pop(member, None)
    value.update(members)
    return at, [*whole((*at, "path"), (*at, "prefix")), *only(at)]


@rule(19, "Route", types=HTTP)
def neither_prefix_nor_path(_, doc, __):
    """A match of no path."""
    at, parts = match(doc)
    return Broken(spell(at), parts)


@rule(19, *ROUTES, types=HTTP)
def prefix_and_path(maker, doc, _):
    """A match by a prefix and by a path."""
    at, parts = match(doc, prefix="/", path={"exact": "/"})
    return Broken(spell(at), parts)


@rule(19, *ROUTES, types=HTTP)
def prefix_without_slash(maker, doc, _):
    """A prefix that no path begins with."""
    at, parts = match(doc, prefix=maker.random.choice(["", "a", " /"]))
    return Broken(spell((*at, "prefix")), parts)


@rule(20, *ROUTES, types=HTTP)
def path_in_two_ways(maker, doc, _):
    """A path that is given as text and as an expression, or in neither way."""
    at, parts = match(doc, path=maker.random.choice([{}, {"exact": "/", "regex": ".*"}]))
    return Broken(spell((*at, "path")), parts)


@rule(None, *ROUTES, types=HTTP)
def path_that_is_no_expression(maker, doc, _):
    """A regular expression that is none."""
    at, parts = match(doc, path={"regex": maker.random.choice(["(", "*", "a{2,1}", r"\1", "(?=a)"])})
    return Broken(spell((*at, "path", "regex")), parts)


def comparison(maker, doc, value):
    """Replaces how a header or a gRPC metadata entry is compared, and adds one if there is none. It returns the place."""
    at = (*route(doc), "match")
    member = "metadata" if at[1] == "grpcRoute" else "headers"
    entries = get(doc, at).setdefault(member, [{"name": "x"}])
    at = (*at, member, maker.random.randrange(len(entries)), "match")
    put(doc, at, value)
    return at


@rule(24, *ROUTES, types=(*HTTP, *GRPC))
def empty_range(maker, doc, _):
    """A range that nothing is in."""
    start = maker.random.choice([0, 7, -(2**63), 2**63 - 1])
    at = comparison(maker, doc, {"range": {"start": start, "end": max(start - maker.random.choice([0, 1, 99]), -(2**63))}})
    return Broken(spell((*at, "range")), whole(at))


@rule(None, *ROUTES, types=(*HTTP, *GRPC))
def comparison_that_is_no_expression(maker, doc, _):
    """A regular expression that is none."""
    at = comparison(maker, doc, {"regex": maker.random.choice(["(", "*", "[b-a]", r"\8"])})
    return Broken(spell((*at, "regex")), whole(at))


@rule(23, "Route", types=GRPC)
def method_without_service(maker, doc, _):
    """A method of any service."""
    at = (*route(doc), "match")
    get(doc, at)["methodName"] = "Get"
    get(doc, at).pop("serviceName", None)
    return Broken(spell((*at, "serviceName")), [*whole((*at, "serviceName")), *only(at, (*at, "methodName"))])


def retry(doc, **events):
    """Gives a route a retry policy with these events alone. It returns the place."""
    at = (*route(doc), "retryPolicy")
    put(doc, at, {"maxRetries": 0, "perRetryTimeout": {}, **events})
    return at


@rule(25, "Route", types=(*HTTP, *GRPC))
def no_event(_, doc, __):
    """Retries after nothing."""
    at = retry(doc)
    return Broken(spell(at), whole(at))


@rule(25, "Route", types=(*HTTP, *GRPC))
def unknown_event(maker, doc, _):
    """Retries after something that never happens."""
    events = [maker.random.choice(randomspecs.EVENTS) for _ in range(maker.random.randrange(3))]
    at = retry(doc, httpRetryEvents=[*events, maker.random.choice(["503", "Server-Error", "5xx"])], tcpRetryEvents=["connection-error"])
    at = (*at, "httpRetryEvents", len(events))
    return Broken(spell(at), whole(at[:-2]))


@rule(20, "GatewayRoute")
def host_in_two_ways(maker, doc, _):
    """A host name that is given whole and in part, or in neither way."""
    at = (*route(doc), "match", "hostname")
    put(doc, at, maker.random.choice([{}, {"exact": "a", "suffix": "b"}]))
    return Broken(spell(at), whole(at))


@rule(21, "GatewayRoute", types=HTTP)
def reserved_prefix(maker, doc, _):
    """A path that is the gateway's own."""
    at, parts = match(doc, prefix=maker.random.choice(["/aws-appmesh", "/aws-app-mesh/x", "/aws-appmesh-y"]))
    return Broken(spell((*at, "prefix")), parts)


@rule(21, "GatewayRoute", types=GRPC)
def reserved_service(maker, doc, _):
    """A gRPC service that is the gateway's own."""
    at = (*route(doc), "match", "serviceName")
    put(doc, at, maker.random.choice(["aws.appmesh", "aws.app-mesh.v1"]))
    return Broken(spell(at), whole(at))


def rewrite(doc, **members):
    """Gives a gateway route a rewrite. It returns the place."""
    at = (*route(doc), "action", "rewrite")
    put(doc, at, members)
    return at


@rule(22, "GatewayRoute", types=HTTP)
def prefix_and_path_rewritten(_, doc, __):
    """A rewrite of the whole and of a part."""
    at = rewrite(doc, path={"exact": "/"}, prefix={"value": "/"})
    return Broken(spell(at), whole(at))


@rule(22, "GatewayRoute", types=HTTP)
def prefix_rewritten_twice(_, doc, __):
    """A prefix that becomes two things."""
    at = (*rewrite(doc, prefix={"value": "/", "defaultPrefix": "ENABLED"}), "prefix")
    return Broken(spell(at), whole(at[:-1]))


@rule(22, "GatewayRoute", types=HTTP)
def prefix_rewritten_without_slashes(maker, doc, _):
    """A prefix that becomes something else than whole parts of a path."""
    at = (*rewrite(doc, prefix={"value": maker.random.choice(["a", "/a", "a/"])}), "prefix", "value")
    return Broken(spell(at), whole(at[:-2]))


# ---- the model


def places(operation, doc):
    """The places in a document, as they are: of a list every member."""

    def inside(place, value):
        yield place
        here = shape(place.shape)
        for step in value if place.type == "structure" else range(len(value)) if place.type == "list" else ():
            of = here["member"]["shape"] if place.type == "list" else here["members"][step]["shape"]
            below = Place(operation, "body", (*place.steps, step), of, step in here.get("required", ()))
            yield from inside(below, value[step])

    _, of, required = modelreader.members(operation)["spec"]
    yield from inside(Place(operation, "body", ("spec",), of, required), doc["spec"])


def break_model(maker, operation, doc, kinds, count=1, done=()):
    """Breaks constraints of the model, of these kinds, at random places that are not about what has been done.

    It returns what was broken: less than asked for, if there is nothing more.
    """
    demands = [d for place in places(operation, doc) for d in modelreader.demands(place) if d.kind in kinds]
    maker.random.shuffle(demands)
    results = []
    for constraint in demands if count else ():
        _, bad = getattr(boundcases, f"{constraint.kind}_values")(constraint)
        at = constraint.place.steps
        result = Broken(spell(at), whole(at), model=True, what=constraint.kind)
        if not bad or any(result.clashes(d) for d in (*done, *results)):
            continue
        put(doc, at, maker.random.choice(bad))
        results.append(result)
        if len(results) == count:
            break
    return results


def break_tags(maker, doc):
    """Gives a request tags that cannot be."""
    key, model, doc["tags"] = maker.random.choice(
        [
            (0, True, [{"key": "k" * 129, "value": ""}]),
            (0, False, [{"key": "aWs:x", "value": ""}]),
            (1, False, [{"key": "a", "value": "1"}, {"key": "a", "value": "2"}]),
        ]
    )
    return Broken(f"tags[{key}].key", whole(("tags",)), model, "tags")
