"""Random objects: whatever is valid is accepted and comes back as it was sent; whatever breaks a rule is refused by name.

The seed is printed, and FAIRLEAD_SEED=SEED runs the same again. Each object has a seed of its own, which a failure
tells: FAIRLEAD_SEED=SEED:NUMBER runs that one alone.
"""

import collections
import copy
import json
import os
import random

import breaks
import documents
import modelreader
import wire
from randomspecs import EXCLUSIVE, Maker
from world import KINDS, Wrong, everywhere, fresh, named, same, shown

pytest_plugins = ("ownserver",)

SEED, _, ONLY = (os.environ.get("FAIRLEAD_SEED") or str(random.SystemRandom().randrange(10**9))).partition(":")
OBJECTS, SINGLE, SEVERAL = 2000, 3000, 1000
CONSTRAINTS = ("type", "required", "min", "max", "enum", "pattern", "union")
MODEL = wire.model()


def each(server, count, work, report, what):
    """Calls work(caller, maker) with many makers, each of which has a seed of its own."""
    numbers = [int(ONLY)] if ONLY else range(count)

    def one(caller, number):
        seed = f"{SEED}:{number}"
        try:
            work(caller, Maker(seed))
        except Exception as failure:
            raise Wrong(f"FAIRLEAD_SEED={seed} {failure!r}") from failure

    sent = everywhere(server, numbers, one)
    report(f"{len(numbers)} {what} from seed {SEED}, {sent} requests")


def surroundings(caller, title):
    """The names of what a new object is to be in: a mesh that only this caller uses."""
    kind = KINDS[title]
    if title == "Mesh":
        return {}
    names = dict.fromkeys(kind.place(""), caller.own)
    caller.ensure("Mesh", names)
    caller.furnish(caller.own, title)
    if kind.parent:
        caller.ensure(kind.parent, names)
    return names


def send(caller, operation, inputs, status=200):
    """Sends an operation and returns what came back, which is of the model's form."""
    answer = caller.call(operation, inputs)
    if answer.status != status:
        raise Wrong(f"{operation} was answered {answer.status} {answer.body.decode()}: {shown(inputs)}")
    wire.check_answer(answer, MODEL.operation_model(operation))
    return json.loads(answer.body)


def equal(got, want, what):
    """Holds that two values are the same."""
    if not same(got, want):
        raise Wrong(f"{what}: {shown(got)}, want {shown(want)}")


def one_life(caller, maker):
    """A random object of a random kind is created, described, listed, updated and deleted."""
    title = maker.random.choice(list(KINDS))
    kind = KINDS[title]
    at = surroundings(caller, title)
    name = fresh("m") if title == "Mesh" else maker.name(title)
    at = {**at, kind.name_member: name}
    tags = maker.tags()

    spec = maker.spec(title)
    made = send(caller, f"Create{title}", {**at, "spec": spec, **({} if tags is None else {"tags": tags})})
    equal(made["spec"], documents.echoed(title, spec), "created")
    equal({k: made[k] for k in at}, at, "names")
    equal((made["status"], made["metadata"]["version"]), ({"status": "ACTIVE"}, 1), "status and version")
    equal(send(caller, f"Describe{title}", at), made, "described")
    equal(send(caller, "ListTagsForResource", {"resourceArn": made["metadata"]["arn"]})["tags"], tags or [], "tags")

    spec = maker.spec(title)
    changed = send(caller, f"Update{title}", {**at, "spec": spec})
    equal(changed["spec"], documents.echoed(title, spec), "updated")
    equal((changed["status"], changed["metadata"]["version"]), ({"status": "ACTIVE"}, 2), "status and version")
    equal(send(caller, f"Describe{title}", at), changed, "described")
    places = {k: v for k, v in at.items() if k != kind.name_member}
    listed = send(caller, f"List{kind.plural[1][0].upper()}{kind.plural[1][1:]}", places)[kind.plural[1]]
    metadata = {k: v for k, v in changed["metadata"].items() if k != "uid"}
    equal([ref for ref in listed if ref[kind.name_member] == name], [{**at, **metadata}], "listed")

    gone = caller.remove(title, at)
    equal((gone["spec"], gone["status"]), (changed["spec"], {"status": "DELETED"}), "deleted")
    send(caller, f"Describe{title}", at, status=404)


def test_whatever_is_valid(own_server, report):
    """Accepted, echoed exactly, and gone in the end."""
    each(own_server, OBJECTS, one_life, report, "random objects")


def start(maker, rule=None, titles=tuple(KINDS)):
    """The kind of an object and a valid spec: one in which the rule can be broken, if one is given."""
    title = maker.random.choice(rule.titles if rule else titles)
    types = EXCLUSIVE.get(f"{title}Spec", ())
    types = [t for t in types if not rule or not rule.types or t in rule.types]
    return title, {"spec": maker.spec(title, maker.random.choice(types) if types else None)}


def break_rules(maker, title, doc, rules, count):
    """Breaks so many of the rules at most, none of which touches what another is about.

    It returns the document, which is a new one, and what was broken.
    """
    done = []
    for rule in rules:
        changed = copy.deepcopy(doc)
        result = rule.breaks(maker, changed, title)
        result.what = rule.name
        if len(done) < count and not any(result.clashes(d) for d in done):
            doc = changed
            done.append(result)
        if result.path == "spec":
            break  # what comes then would not know which route it is about
    return doc, done


def refused(caller, maker, title, operation, doc, done):
    """Sends a document in which rules have been broken: the refusal names each field, those of the model first."""
    inputs = dict.fromkeys(KINDS[title].at("", ""), caller.own) | doc
    answer = caller.call(operation, inputs)
    broke = ", ".join(f"{d.what} at {d.path}" for d in done)
    what = f"{operation} with {broke}: {answer.status} {answer.body.decode()} for {shown(inputs)}"
    if answer.code != "BadRequestException":
        raise Wrong(what)
    wire.check_answer(answer, MODEL.operation_model(operation))
    fields = list(dict.fromkeys(named(answer)))
    of_model = [next((d.model for d in done if d.path == field), None) for field in fields]
    if set(fields) != {d.path for d in done} or of_model != sorted(of_model, reverse=True):
        raise Wrong(what)


def test_any_one_rule(own_server, report):
    """Every rule beyond the model in turn, and every kind of constraint of the model as often as all of them together."""
    seen = collections.Counter()
    demanded = {title: {d.kind for p in modelreader.places(f"Create{title}") for d in modelreader.demands(p)} for title in KINDS}
    have = {kind: [title for title in KINDS if kind in demanded[title]] for kind in CONSTRAINTS}

    def one(caller, maker):
        turn, beyond = divmod(int(maker.seed.partition(":")[2]), 2)
        done = []
        while not done:
            rule = breaks.RULES[turn % len(breaks.RULES)] if beyond else None
            title, doc = start(maker, rule, have[CONSTRAINTS[turn % len(CONSTRAINTS)]])
            maker.fullness = 0.9  # for the next one, if nothing can be broken in this
            operation = maker.random.choice(["Create", "Update"]) + title
            if rule:
                doc, done = break_rules(maker, title, doc, [rule], 1)
            else:
                done = breaks.break_model(maker, operation, doc, [CONSTRAINTS[turn % len(CONSTRAINTS)]])
        seen[done[0].what] += 1
        refused(caller, maker, title, operation, doc, done)

    assert {r.number for r in breaks.RULES} - {None} == breaks.NUMBERS
    each(own_server, SINGLE, one, report, "specs with one rule broken")
    report(f"each of {len(breaks.RULES)} rules at least {min(seen.values())} times, of the model {[(k, seen[k]) for k in CONSTRAINTS]}")
    assert ONLY or set(seen) == {r.name for r in breaks.RULES} | set(CONSTRAINTS)


def test_several_rules(own_server, report):
    """Up to three rules and up to three constraints of the model at once, and something about the tags."""
    counts = collections.Counter()

    def one(caller, maker):
        done = []
        while len(done) < 2:
            title, doc = start(maker)
            operation = maker.random.choice(["Create", "Update"]) + title
            rules = [r for r in breaks.RULES if title in r.titles and (not r.types or any(t in doc["spec"] for t in r.types))]
            maker.random.shuffle(rules)
            doc, done = break_rules(maker, title, doc, rules, maker.random.randint(0, 3))
            done += breaks.break_model(maker, operation, doc, CONSTRAINTS, maker.random.randint(0, 3), done)
            if operation.startswith("Create") and maker.boolean():
                done.append(breaks.break_tags(maker, doc))
        counts[len(done)] += 1
        refused(caller, maker, title, operation, doc, done)

    each(own_server, SEVERAL, one, report, "specs with several rules broken")
    report(f"so many with so many rules broken: {dict(sorted(counts.items()))}")
