"""Valid requests, made from the service model: the least one that has a given place in it, and random ones.

The model's own bounds come from modelreader. What it does not say, the rules between the
fields of a spec (docs/compatibility.md), is in settle, which changes a document as
little as it can until it keeps them.
"""

import copy

import modelreader
from harness import ACCOUNT, REGION
from modelreader import shape

# The objects that specs refer to have names of one letter, and of as many as can be.
NAME, LONGEST = "n", "n" * 255

# Stands for a member that is not there.
DROP = object()

# The least value of what can only have some values by rules beyond the model, by the member's name.
LEAST = {"weight": 1, "start": 0, "end": 1, "prefix": "/", "httpRetryEvents": "server-error"}


def text(steps, length):
    """Text of a length, fit for a place."""
    if steps[-2:] == ("prefix", "value"):  # what a gateway route puts in the place of a prefix
        return "/" * length if length < 2 else f"/{'n' * (length - 2)}/"
    if steps[-1:] == ("resourceArn",):
        return f"arn:aws:appmesh:{REGION}:{ACCOUNT}:mesh/{NAME}"
    if steps[-1:] == ("meshOwner",):
        return ACCOUNT.ljust(length, "1")[:length]
    return "n" * length


def least(name, steps):
    """The least value of a shape at a place: what is required, and no more."""
    here, member = shape(name), next((s for s in reversed(steps) if s != 0), None)
    if member in LEAST and here["type"] in ("string", "integer", "long"):
        return LEAST[member]
    if here["type"] == "structure":
        inner = here.get("required", []) or list(here["members"])[: 1 if here.get("union") else 0]
        return {m: least(here["members"][m]["shape"], (*steps, m)) for m in inner}
    if here["type"] == "list":
        return items(name, steps, max(here.get("min", 0), 1))
    if here["type"] in modelreader.WIDTHS:
        return max(here.get("min", 0), 0)
    if here["type"] == "boolean":
        return True
    return here["enum"][0] if "enum" in here else text(steps, max(here.get("min", 1), 1))


def items(name, steps, count):
    """A list of so many members; tags differ in their keys."""
    out = [least(shape(name)["member"]["shape"], (*steps, 0)) for _ in range(count)]
    for i, one in enumerate(out):
        if steps == ("tags",):
            one["key"] = f"k{i}"
        if steps == ("tagKeys",):
            out[i] = f"k{i}"
    return out


def around(name, steps, rest):
    """The least value of a shape at a place which has, further in, the place that the rest leads to."""
    value = least(name, steps)
    if not rest:
        return value
    step, here = rest[0], shape(name)
    if here["type"] == "list":
        return [around(here["member"]["shape"], (*steps, 0), rest[1:])]
    if here.get("union"):
        value = {}
    value[step] = around(here["members"][step]["shape"], (*steps, step), rest[1:])
    return value


def request(operation, steps=(), members=()):
    """The least input of an operation that has a place in it, as {member: value}; members are there in any case."""
    out = {}
    for name, (_, of, required) in modelreader.members(operation).items():
        if required or name in members or steps[:1] == (name,):
            out[name] = around(of, (name,), steps[1:] if steps[:1] == (name,) else ())
    return out


def put(value, steps, new):
    """Puts a value into a place of a document, in place; DROP takes away what is there."""
    for step in steps[:-1]:
        value = value[step]
    if new is DROP:
        del value[steps[-1]]
    else:
        value[steps[-1]] = new


def get(value, steps, default=None):
    """The value at a place of a document."""
    for step in steps:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return default
    return value


def echoed(kind, spec):
    """What comes back for a spec: with the two defaults that are written into it, and nothing else."""
    spec = copy.deepcopy(spec)
    if kind == "Mesh":
        spec.setdefault("egressFilter", {"type": "DROP_ALL"})
    if kind in ("VirtualNode", "VirtualGateway"):
        for listener in spec.get("listeners", []):
            if "healthCheck" in listener:
                listener["healthCheck"].setdefault("port", listener["portMapping"]["port"])
    return spec


def settle(kind, spec):
    """Changes a spec, in place, until it keeps the rules between its fields. What a caller asked for by its presence stays."""
    if kind in ("VirtualNode", "VirtualRouter", "VirtualGateway"):
        settle_listeners(spec)
    if kind == "VirtualNode":
        if spec.get("listeners"):
            spec.setdefault("serviceDiscovery", {"dns": {"hostname": NAME}})
        elif "serviceDiscovery" in spec:
            spec["listeners"] = [least("Listener", ("spec", "listeners", 0))]
        different = {backend_name(b): b for b in spec.get("backends", [])}
        if "backends" in spec:
            spec["backends"] = list(different.values())
    if kind == "Route":
        settle_route(spec)
    if kind == "GatewayRoute":
        settle_gateway_route(spec)
    return spec


def backend_name(backend):
    """The name of the service that a backend means, by its name or its ARN."""
    name = backend["virtualService"]["virtualServiceName"]
    return name.split("/virtualService/", 1)[1] if name.startswith("arn:") else name


def settle_listeners(spec):
    """A port for each; pools, timeouts and health checks that go with the port mapping."""
    taken = set()
    for listener in spec.get("listeners", []):
        mapping = listener["portMapping"]
        if port := listener.get("healthCheck", {}).get("port"):
            mapping["port"] = port
        while mapping["port"] in taken:
            mapping["port"] = mapping["port"] % 65535 + 1
        taken.add(mapping["port"])
        if port:
            listener["healthCheck"]["port"] = mapping["port"]
        if pool := listener.get("connectionPool"):
            (mapping["protocol"],) = pool
        if timeout := listener.get("timeout"):
            if not pool:
                (mapping["protocol"],) = timeout
            elif set(timeout) != set(pool):
                del listener["timeout"]


def one_of(value, members, default=None, most=1):
    """Leaves one of the members in an object, the first that is there; puts the default there if there is none."""
    there = [m for m in members if m in value]
    for m in there[most:]:
        del value[m]
    if not there and default:
        value.update(copy.deepcopy(default))


def settle_path(match):
    """What HTTP routes match: the beginning of a path or the whole, and that by one way."""
    if "path" in match:
        one_of(match["path"], ("regex", "exact"), {"exact": "/"})


def settle_route(spec):
    """One type, some weight, an event for each retry policy, a match."""
    kinds = ("httpRoute", "http2Route", "grpcRoute", "tcpRoute")
    one_of(spec, kinds, {"httpRoute": least("HttpRoute", ("spec", "httpRoute"))})
    (kind,) = (k for k in kinds if k in spec)
    route = spec[kind]
    targets = route["action"]["weightedTargets"]
    if not any(t["weight"] for t in targets):
        targets[1:] = [*targets[1:9], {"virtualNode": NAME, "weight": 1}]
    retry = route.get("retryPolicy")
    if retry and not any(e in retry for e in ("httpRetryEvents", "tcpRetryEvents", "grpcRetryEvents")):
        retry["httpRetryEvents"] = ["server-error"]
    if kind == "grpcRoute" and "methodName" in route["match"]:
        route["match"].setdefault("serviceName", NAME)
    if kind in ("httpRoute", "http2Route"):
        one_of(route["match"], ("path", "prefix"), {"prefix": "/"})
        settle_path(route["match"])


def settle_gateway_route(spec):
    """One type; at most one of what excludes each other in a match and a rewrite."""
    kinds = ("httpRoute", "http2Route", "grpcRoute")
    one_of(spec, kinds, {"httpRoute": least("HttpGatewayRoute", ("spec", "httpRoute"))})
    (kind,) = (k for k in kinds if k in spec)
    route = spec[kind]
    if "hostname" in route["match"]:
        one_of(route["match"]["hostname"], ("exact", "suffix"), {"exact": NAME})
    one_of(route["match"], ("path", "prefix"))
    settle_path(route["match"])
    rewrite = route["action"].get("rewrite", {})
    one_of(rewrite, ("path", "prefix"))
    one_of(rewrite.get("prefix", {}), ("value", "defaultPrefix"))
