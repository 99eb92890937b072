"""Every bound of the service model, on every operation: what is just within it is accepted, what is just past it is refused by name.

modelreader finds the constraints, boundcases makes the requests for each, and the table EXEMPT
lists what ends otherwise and why. Nothing is left out: the number of constraints that were tried must be the
number that a second way through the model counts.
"""

import collections
import dataclasses
import json
import re
import time

import boundcases
import documents
import modelreader
from documents import NAME
from harness import ACCOUNT, REGION
from world import KINDS, Wrong, everywhere, fresh, named, same, shown, verb_and_kind

pytest_plugins = ("ownserver",)

BAD = "BadRequestException"


@dataclasses.dataclass(frozen=True)
class Exempt:
    """Requests that end otherwise than the model alone would have it."""

    operation: str  # a pattern, as are path and kind
    path: str  # with the location before it
    kind: str
    within: bool  # is it about what is within the bound?
    code: str
    names: str | None  # what the refusal names, seen from the place: "" itself, ".." what it is in; None if no field
    why: str  # as docs/compatibility.md has it

    def fits(self, case):
        """Says whether it is about a request."""
        texts = case.place.operation, f"{case.place.location} {case.place.path}", case.constraint.kind
        return self.within == case.within and all(map(re.fullmatch, (self.operation, self.path, self.kind), texts))

    def field(self, case):
        """The field that the refusal names."""
        steps = case.place.steps
        return {"": modelreader.spell(steps), "..": modelreader.spell(steps[:-1]), None: None}[self.names]


EXEMPT = [
    Exempt(r"\w+", r"label \w+", "required|min", False, "UnknownOperationException", None, "an empty segment in a path is not found"),
    Exempt(
        "(Create|Update)Route", r"body spec\.\w+\.retryPolicy\.httpRetryEvents\[0\]", "min|max", True, BAD, "",
        "of httpRetryEvents the four documented values are accepted",
    ),
    Exempt("(Create|Update)(Gateway)?Route", r"body .*\.match\.range\.start", "max", True, BAD, "..", "a range's start is below its end"),
    Exempt("(Create|Update)(Gateway)?Route", r"body .*\.match\.range\.end", "min", True, BAD, "..", "a range's start is below its end"),
]  # fmt: skip


def stage(caller, case):
    """Makes what a request is about, and returns the inputs with the names of that."""
    verb, title = verb_and_kind(case.place.operation)
    inputs = dict(case.inputs)
    kind = KINDS.get(title)
    mesh = inputs.get("meshName", NAME)
    if "resourceArn" in inputs:
        service = fresh("tagged")
        caller.ensure("VirtualService", {"meshName": NAME, "virtualServiceName": service})
        inputs["resourceArn"] = KINDS["VirtualService"].arn(NAME, service, ACCOUNT, REGION)
    elif not kind:  # a list
        for title in ("Mesh", "VirtualRouter", "VirtualGateway"):
            if KINDS[title].name_member in inputs:
                caller.ensure(title, inputs)
    else:
        if case.place.steps == (kind.name_member,):
            letter = {"Create": "c", "Delete": "d"}.get(verb, "n")
            inputs[kind.name_member] = case.value.replace("n", letter)
        else:
            inputs[kind.name_member] = {"Update": caller.own, "Describe": NAME}.get(verb) or fresh()
        if verb != "Create":
            caller.ensure(title, inputs)
        elif title != "Mesh":
            caller.ensure("Mesh", inputs)
            caller.furnish(mesh, title)
            if kind.parent:
                caller.ensure(kind.parent, inputs)
    return inputs


def accepted(caller, case):
    """Sends what must be accepted, and holds that it comes back as it was sent."""
    inputs = stage(caller, case)
    verb, title = verb_and_kind(case.place.operation)
    answer = caller.call(case.place.operation, inputs)
    if answer.status != 200:
        raise Wrong(f"{case}: {answer.status} {answer.body.decode()} for {shown(inputs)}")
    if verb in ("Create", "Update"):
        back, name = json.loads(answer.body), KINDS[title].name_member
        if not same((back["spec"], back[name]), (documents.echoed(title, inputs.get("spec", {})), inputs[name])):
            raise Wrong(f"{case}: {shown(inputs)} came back as {shown(back)}")
    if verb == "Create":
        caller.remove(title, inputs)
    if verb == "Delete":
        caller.forget(title, inputs)


def refused(caller, case, code, field):
    """Sends what must be refused, and holds that the refusal names the field and nothing else."""
    answer = caller.call(case.place.operation, case.inputs)
    if answer.code != code or (field is not None and (answer.status, named(answer)) != (400, [field])):
        raise Wrong(f"{case}: {answer.status} {answer.body.decode()} for {shown(case.inputs)}, not {code} that names {field}")


def run(caller, case, exemption):
    """Sends one request and checks its answer."""
    if exemption is None and case.within:
        accepted(caller, case)
    elif exemption is None:
        refused(caller, case, BAD, case.place.path)
    else:
        refused(caller, case, exemption.code, exemption.field(case))


def send_all(server, cases, report):
    """Sends the requests, each once, and says how many there were and how long it took."""
    used, different = set(), {}
    for case in cases:
        exemption = next((e for e in EXEMPT if e.fits(case)), None)
        used.add(exemption)
        different.setdefault(case.key, (case, exemption))
    start = time.monotonic()
    sent = everywhere(server, different.values(), lambda caller, job: run(caller, *job))
    report(f"{len(different)} different requests, {sent} sent in all, {time.monotonic() - start:.1f} s")
    return used


def test_every_bound(own_server, report):
    """The model's own bounds, none left out."""
    constraints = modelreader.constraints()
    cases = [case for c in constraints for case in boundcases.tries(c)]
    tried = {case.constraint for case in cases}
    counted = modelreader.tally()
    report(f"{len(constraints)} constraints read, {counted.total()} counted, {len(tried)} tried: {dict(counted)}")
    endless = tried - {case.constraint for case in cases if not case.within}
    report(f"{len(endless)} of them have nothing past them, as nothing is shorter than 0")
    assert all((c.kind, c.bound) == ("min", 0) for c in endless)
    assert collections.Counter(c.kind for c in tried) == counted
    unused = set(EXEMPT) - send_all(own_server, cases, report)
    assert not unused, "exemptions that nothing needs"


def test_bounds_beyond_the_model(own_server, report):
    """The bounds on names, tokens and accounts that docs/compatibility.md adds."""
    send_all(own_server, list(boundcases.beyond()), report)
