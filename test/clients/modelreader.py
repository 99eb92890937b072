"""An independent reader of the service model: what it bounds, and where.

It reads the JSON file that boto3 is made from, as it is, and shares nothing with the
generator of Fairlead's own types and bounds. Two functions go through the model, each in
its own way, so that one can be held against the other: constraints follows every path
from an operation's input down, tally counts how often each shape occurs.
"""

import collections
import dataclasses
import functools
import gzip
import json
import pathlib

import botocore

# What a number can be where the model gives no bound of its own.
WIDTHS = {"integer": (-(2**31), 2**31 - 1), "long": (-(2**63), 2**63 - 1)}

# Where an operation's members travel. Those without a location are in the body.
LOCATIONS = {"uri": "label", "querystring": "query", None: "body"}


@functools.cache
def model():
    """The model, as the file has it."""
    file = pathlib.Path(botocore.__file__).parent / "data" / "appmesh" / "2019-01-25" / "service-2.json.gz"
    return json.loads(gzip.decompress(file.read_bytes()))


def shape(name):
    """A shape of the model."""
    return model()["shapes"][name]


def operations():
    """The names of the operations."""
    return list(model()["operations"])


@dataclasses.dataclass(frozen=True)
class Place:
    """One place in the input of an operation at which a value can stand."""

    operation: str
    location: str  # label, query or body
    steps: tuple  # ("spec", "listeners", 0, "portMapping"); none for the body itself
    shape: str  # the shape's name
    required: bool

    @property
    def type(self):
        """The type of the values, as the model calls it."""
        return shape(self.shape)["type"]

    @property
    def path(self):
        """The place as a message names it: spec.listeners[0].portMapping."""
        return spell(self.steps)

    def __str__(self):
        return f"{self.operation} {self.path}"


@dataclasses.dataclass(frozen=True)
class Constraint:
    """One thing that the model demands at a place: its kind and, for min and max, the bound."""

    place: Place
    kind: str  # type, required, min, max, enum, pattern or union
    bound: int = 0

    def __str__(self):
        return f"{self.place} {self.kind}"


def spell(steps):
    """Steps into a document as a message spells them."""
    if not steps:
        return "request body"
    return "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in steps).removeprefix(".")


def members(operation):
    """The members of an operation's input: {name: (location, shape's name, required)}."""
    top = shape(model()["operations"][operation]["input"]["shape"])
    required = top.get("required", [])
    return {name: (LOCATIONS[ref.get("location")], ref["shape"], name in required) for name, ref in top["members"].items()}


def places(operation):
    """Every place in the input of an operation. Of a list there is one member, the first."""
    inputs = members(operation)
    if any(location == "body" for location, _, _ in inputs.values()):
        yield Place(operation, "body", (), model()["operations"][operation]["input"]["shape"], False)
    for name, (location, of, required) in inputs.items():
        yield from below(Place(operation, location, (name,), of, required))


def below(place, trail=()):
    """A place and all the places in it; a shape within itself is followed once."""
    yield place
    if place.shape in trail:
        return
    here = shape(place.shape)
    if place.type == "list":
        inner = [(0, here["member"]["shape"], False)]
    else:
        inner = [(name, ref["shape"], name in here.get("required", [])) for name, ref in here.get("members", {}).items()]
    for step, of, required in inner:
        yield from below(Place(place.operation, "body", (*place.steps, step), of, required), (*trail, place.shape))


def demands(place):
    """What the model demands at a place. Text in a path or a query has no other type than text."""
    here = shape(place.shape)
    if place.location == "body" or place.type != "string":
        yield Constraint(place, "type")
    if place.required:
        yield Constraint(place, "required")
    if not place.steps:
        return
    least, greatest = WIDTHS.get(place.type, (None, None))
    for kind, bound in (("min", here.get("min", least)), ("max", here.get("max", greatest))):
        if bound is not None:
            yield Constraint(place, kind, bound)
    for kind in ("enum", "pattern", "union"):
        if kind in here:
            yield Constraint(place, kind)


def constraints():
    """Every constraint on the inputs of all operations."""
    return [c for name in operations() for place in places(name) for c in demands(place)]


def tally():
    """How many constraints of each kind there are, told from how often each shape occurs in the inputs."""
    count, todo = collections.Counter(), collections.Counter()
    for operation in operations():
        inputs = members(operation).values()
        count["type"] += any(location == "body" for location, _, _ in inputs)
        for location, of, required in inputs:
            todo[of] += 1
            count["required"] += required
            if location != "body" and shape(of)["type"] == "string":
                count["type"] -= 1
    while todo:
        name, times = todo.popitem()
        here = shape(name)
        count["type"] += times
        count["required"] += times * len(here.get("required", []))
        for kind in ("min", "max", "enum", "pattern", "union"):
            implied = kind in ("min", "max") and here["type"] in ("integer", "long")
            count[kind] += times * (kind in here or implied)
        for ref in [*here.get("members", {}).values(), *filter(None, [here.get("member")])]:
            todo[ref["shape"]] += times
    return count
