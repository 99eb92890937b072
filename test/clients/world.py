"""Sends the operations as the service model has them, many a second, and makes what they need.

Nothing but the model says where a member travels. Each thread has a Caller of its own.
"""

import itertools
import json
import queue
import re
import threading
import traceback
import urllib.parse

import pytest

import documents
import kinds
import modelreader
import wire
from documents import LONGEST, NAME

KINDS = {k.title: k for k in kinds.KINDS}

# Objects that others need are as empty as they can be, so that they set no conditions.
EMPTY = {"VirtualGateway": {"listeners": []}}

_numbers = itertools.count()


def fresh(prefix="x"):
    """A name that nothing has yet."""
    return f"{prefix}{next(_numbers)}"


def verb_and_kind(operation):
    """("Create", "Route") for CreateRoute; the kind is "" for the operations on tags and for lists."""
    verb = re.match("[A-Z][a-z]+", operation)[0]
    title = operation.removeprefix(verb)
    return verb, title if title in KINDS else ""


class Wrong(Exception):
    """An answer that is not the one expected."""


class Caller:
    """Sends operations over one connection."""

    def __init__(self, server):
        self.server = server
        self.line = wire.Line(server)
        self.own = fresh("own")  # part of the names of what only this caller changes
        self.made = set()

    def call(self, operation, inputs):
        """Sends an operation. An input without a name is sent as the body, whatever it is."""
        http = modelreader.model()["operations"][operation]["http"]
        path, parts = http["requestUri"], {"query": {}, "body": {}}
        for name, value in inputs.items():
            location = modelreader.members(operation)[name][0] if name else ""
            if location == "label":
                path = path.replace("{" + name + "}", urllib.parse.quote(value, safe="").replace(".", "%2E"))
            elif location:
                parts[location][name] = value
        if parts["query"]:
            path += "?" + urllib.parse.urlencode(parts["query"], quote_via=urllib.parse.quote)
        body = json.dumps(inputs.get("", parts["body"])).encode() if http["method"] == "PUT" else None
        return self.line.send(http["method"], path, body)

    def ensure(self, title, names):
        """Makes an object, and what it is in and can refer to, unless it is there."""
        kind, mesh = KINDS[title], names["meshName"]
        names = {k: names[k] for k in names if k in kind.at(mesh, "")}
        key = (title, *names.values())
        if key in self.made:
            return
        if title != "Mesh":
            self.ensure("Mesh", names)
            self.furnish(mesh, title)
        if kind.parent:
            self.ensure(kind.parent, names)
        spec = EMPTY.get(title) or documents.settle(title, documents.request(f"Create{title}").get("spec", {}))
        answer = self.call(f"Create{title}", {**names, "spec": spec})
        if answer.status != 200 and answer.code != "ConflictException":
            raise Wrong(f"{title} {names}: {answer.status} {answer.body.decode()}")
        self.made.add(key)

    def remove(self, title, names):
        """Deletes an object."""
        answer = self.call(f"Delete{title}", {k: names[k] for k in KINDS[title].at("", "")})
        if answer.status != 200:
            raise Wrong(f"delete {title} {names}: {answer.status} {answer.body.decode()}")
        return json.loads(answer.body)

    def forget(self, title, names):
        """Notes that an object is no longer there."""
        self.made.discard((title, *(names[k] for k in names if k in KINDS[title].at("", ""))))

    def furnish(self, mesh, title):
        """Makes what specs of a kind refer to: objects with a short and a long name."""
        needs = {"Route": ["VirtualNode"], "VirtualService": ["VirtualNode", "VirtualRouter"], "GatewayRoute": ["VirtualService"]}
        for other in needs.get(title, []):
            for name in (NAME, LONGEST):
                self.ensure(other, {"meshName": mesh, KINDS[other].name_member: name})


def everywhere(server, jobs, work, threads=4):
    """Calls work(caller, job) for each job, in several threads. It returns how many requests that sent, and tells all that failed."""
    waiting, failures, sent = queue.SimpleQueue(), [], []
    for job in jobs:
        waiting.put(job)

    def run():
        caller = Caller(server)
        while len(failures) < 5:
            try:
                job = waiting.get_nowait()
            except queue.Empty:
                break
            try:
                work(caller, job)
            except Exception as failure:  # told below, for all threads together
                failures.append("".join(traceback.format_exception_only(failure)).strip())
        sent.append(caller.line.sent)
        caller.line.close()

    crew = [threading.Thread(target=run) for _ in range(threads)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    if failures:
        pytest.fail("\n".join(failures), pytrace=False)
    return sum(sent)


def named(answer):
    """The fields that a refusal names, in its order."""
    return [re.match(r"request body|[^ ]*", part)[0] for part in answer.message.split("; ")]


def same(one, other):
    """Says whether two documents are the same in JSON, lists in their order; 1 is neither true nor 1.0."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def shown(inputs):
    """An input as text for a message, shortened."""
    said = json.dumps(inputs, default=str)
    return said if len(said) < 1500 else said[:1500] + "…"
