"""The requests that test_bounds sends: for each constraint of the service model what is just within it, and what is just past it."""

import dataclasses
import itertools

import documents
import modelreader
from documents import DROP, LONGEST, NAME
from modelreader import Constraint, shape
from world import verb_and_kind

# JSON of other types than a place's own.
WRONG = {
    "structure": ["x", 1, True, []],
    "list": ["x", 1, True, {}],
    "string": [1, True, [], {}],
    "integer": ["1", 1.5, True, [], {}],
    "long": ["1", 1.5, True, [], {}],
    "boolean": ["true", 1, [], {}],
}

# What fits each pattern of the model, and what does not.
PATTERNS = {
    "^[a-zA-Z0-9!-~]+$": (["!~", "aZ09"], ["a b", "é", "a\n", "\x7f"]),
    "^([a-zA-Z0-9!-~][  a-zA-Z0-9!-~]*){0,1}[a-zA-Z0-9!-~]{0,1}$": (["!~", "a b", "a "], [" a", "é", "a\tb", "a\n"]),
}


@dataclasses.dataclass
class Try:
    """A request for a constraint: the value at its place, and whether that is within the bound."""

    constraint: Constraint
    within: bool
    value: object
    inputs: dict  # by member; a body that is no object stands under ""

    @property
    def place(self):
        """The constraint's place."""
        return self.constraint.place

    @property
    def key(self):
        """What makes two requests the same."""
        return self.place.operation, repr(sorted(self.inputs.items()))

    def __str__(self):
        return f"{self.constraint} {'within' if self.within else 'past'} the bound"


def base(place):
    """The least inputs that have the place in them, with the names that the test gives to what is there already."""
    inputs = documents.request(place.operation, place.steps)
    for name, (location, _, _) in modelreader.members(place.operation).items():
        if location == "label":
            inputs[name] = NAME
    return settled(place, inputs)


def settled(place, inputs):
    """The inputs, changed so that they keep the rules beyond the model."""
    if "spec" in inputs:
        documents.settle(verb_and_kind(place.operation)[1], inputs["spec"])
    return inputs


def made(place, value):
    """The least inputs with a value at the place."""
    inputs = base(place)
    documents.put(inputs, place.steps, value)
    return settled(place, inputs)


def broken(place, value):
    """Valid inputs, in which then a value is put at the place, whatever comes of it."""
    if not place.steps:
        return {**base(place), "": value}
    inputs = made(place, documents.get(base(place), place.steps))
    documents.put(inputs, place.steps, value)
    return inputs


def tries(constraint):
    """The requests for a constraint, those within it first."""
    place, good, bad = constraint.place, *globals()[f"{constraint.kind}_values"](constraint)
    for value in good:
        yield Try(constraint, True, value, made(place, value) if place.steps else base(place))
    for value in bad:
        yield Try(constraint, False, value, broken(place, value))


def usual(place):
    """What the least inputs have at a place."""
    return documents.get(base(place), place.steps)


def type_values(constraint):
    """What a place usually has; JSON of every other type. In a list there is no null."""
    place = constraint.place
    if place.location == "query":
        return [usual(place)], ["", "x", "1.5", "+1"]
    wrong = list(WRONG[place.type])
    if not place.steps or isinstance(place.steps[-1], int):
        wrong.append(None)
    return [usual(place)], wrong


def required_values(constraint):
    """Something; nothing, and null."""
    place = constraint.place
    if place.location == "label":
        return [usual(place)], [""]
    return [usual(place)], [DROP] if place.location == "query" else [DROP, None]


def sized(place, size):
    """A value of a size: a length or a number."""
    if place.type == "string":
        return documents.text(place.steps, size)
    if place.type == "list":
        return documents.items(place.shape, place.steps, size)
    return size


def min_values(constraint):
    """The least; one less, unless nothing is shorter."""
    place, bound = constraint.place, constraint.bound
    shorter = place.type in modelreader.WIDTHS or bound > 0
    return [sized(place, bound)], [sized(place, bound - 1)] if shorter else []


def max_values(constraint):
    """The greatest; one more."""
    place, bound = constraint.place, constraint.bound
    return [sized(place, bound)], [sized(place, bound + 1)]


def enum_values(constraint):
    """Each value; nothing, another, one in letters of another case, one with a space."""
    values = shape(constraint.place.shape)["enum"]
    return values, ["", "bogus", values[0].swapcase(), values[0] + " "]


def pattern_values(constraint):
    """What the table has for the pattern."""
    return PATTERNS[shape(constraint.place.shape)["pattern"]]


def union_values(constraint):
    """Each member alone; none, each pair, all."""
    place = constraint.place
    of = shape(place.shape)["members"]
    alone = {m: documents.least(ref["shape"], (*place.steps, m)) for m, ref in of.items()}
    sets = {(), *itertools.combinations(alone, 2), tuple(alone)} - {(m,) for m in alone}
    return [{m: v} for m, v in alone.items()], [{m: alone[m] for m in several} for several in sorted(sets)]


# ---- bounds that docs/compatibility.md adds to the model's


def beyond():
    """The requests for the bounds on names, tokens and accounts that the model does not have."""
    for operation in modelreader.operations():
        for place in modelreader.places(operation):
            for good, bad in added(place):
                yield from (Try(Constraint(place, "beyond"), True, v, made(place, v)) for v in good)
                yield from (Try(Constraint(place, "beyond"), False, v, broken(place, v)) for v in bad)


def added(place):
    """What is accepted and what is not at a place, by a rule that the model does not have."""
    last = place.steps[-1] if place.steps else None
    if last == "clientToken":
        yield ["t", "t" * 36, "aZ-_09"], ["", "t" * 37, "a.b", "é"]
    elif last == "meshOwner":
        yield [], ["12345678901x", "\u0661" * 12]  # digits, but not ours
    elif last == "virtualServiceName":
        yield [NAME, LONGEST], [*([] if place.location == "label" else [""]), LONGEST + "n", "a\x00b", "..", "."]
    elif place.shape == "ResourceName":
        yield [], ["a/b", "a b", "é", "..", "."]
