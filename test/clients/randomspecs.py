"""Random requests that are valid: any members that the model allows, with any values that it and the rules beyond it allow."""

import random

import documents
import modelreader
from documents import LONGEST, NAME
from harness import ACCOUNT, REGION
from modelreader import shape

# Of these members a structure has one at most; settle adds one where there must be one.
EXCLUSIVE = {
    "RouteSpec": ("httpRoute", "http2Route", "grpcRoute", "tcpRoute"),
    "GatewayRouteSpec": ("httpRoute", "http2Route", "grpcRoute"),
    "HttpRouteMatch": ("path", "prefix"),
    "HttpGatewayRouteMatch": ("path", "prefix"),
    "HttpPathMatch": ("exact", "regex"),
    "GatewayRouteHostnameMatch": ("exact", "suffix"),
    "HttpGatewayRouteRewrite": ("path", "prefix"),
    "HttpGatewayRoutePrefixRewrite": ("defaultPrefix", "value"),
}

EXPRESSIONS = [".*", "a|b", "^/v[0-9]+/(?:x|y){2,3}$", "(?i)caf\u00e9", r"\d+\.\w*", "[^/]+", r"\pL+"]
EVENTS = ["server-error", "gateway-error", "client-error", "stream-error"]
PLAIN = "abcxyzABCXYZ0189-_."
PRINTABLE = PLAIN + " /:@+%?#&=~!$'()*,\"\\<>é漢ß😀"
ANY = PRINTABLE + ";\t\n\r\x00\x1f\x7f\u0085\u2028\u2029\ufeff\ufffd"


class Maker:
    """Makes what is random from a seed: the same seed, the same values."""

    def __init__(self, seed):
        self.seed = seed
        self.random = random.Random(seed)
        # Some documents are full of optional members, most have a few.
        self.fullness = self.random.choice([0.1, 0.3, 0.5, 0.9])

    def spec(self, title, kind=None):
        """The spec of an object; of a route or gateway route one of the given type, if there is one."""
        of = modelreader.members(f"Create{title}")["spec"][1]
        spec = self.value(of, ("spec",))
        if kind and kind not in spec:
            for other in EXCLUSIVE[of]:
                spec.pop(other, None)
            spec[kind] = self.value(shape(of)["members"][kind]["shape"], ("spec", kind))
        return documents.settle(title, spec)

    def name(self, title):
        """A name that an object can have, and that none of those that specs refer to has."""
        alphabet = PRINTABLE if title == "VirtualService" else PLAIN
        return "x-" + self.text(alphabet, 0, 253)

    def tags(self):
        """Tags, or None."""
        if self.random.random() < 0.7:
            return None
        keys = {self.text(PRINTABLE, 1, 128) for _ in range(self.random.choice([0, 1, 3, 50]))}
        return [{"key": k, "value": self.text(PRINTABLE, 0, 256)} for k in sorted(keys)]

    def value(self, name, steps):
        """A value of a shape at a place."""
        here = shape(name)
        make = {"structure": self.structure, "list": self.list, "string": self.string, "boolean": self.boolean}
        return make.get(here["type"], self.number)(name, here, steps)

    def structure(self, name, here, steps):
        """All that is required and some of the rest."""
        names = sorted(here["members"])
        if here.get("union"):
            chosen = [self.random.choice(names)]
        else:
            single = self.random.choice([*EXCLUSIVE.get(name, ()), None])
            chosen = [
                m
                for m in names
                if m in here.get("required", ()) or (m == single if m in EXCLUSIVE.get(name, ()) else self.random.random() < self.fullness)
            ]
        self.random.shuffle(chosen)
        return {m: self.value(here["members"][m]["shape"], (*steps, m)) for m in chosen}

    def list(self, name, here, steps):
        """Some members; now and then as many as there can be."""
        least, most = here.get("min", 0), here.get("max", 20)
        count = self.random.choice([least, 1, 1, 2, 2, 3, most])
        return [self.value(here["member"]["shape"], (*steps, i)) for i in range(min(max(count, least), most))]

    def boolean(self, *_):
        """True or false."""
        return self.random.random() < 0.5

    def number(self, name, here, steps):
        """A number within the bounds, often one of the bounds."""
        implied = modelreader.WIDTHS[here["type"]]
        least, most = here.get("min", implied[0]), here.get("max", implied[1])
        if steps[-1] == "start":
            most = -1
        if steps[-1] == "end":
            least = 0
        return self.random.choice([least, most, self.random.randint(least, most), self.random.randint(least, min(most, least + 1000))])

    def string(self, name, here, steps):
        """Text within the bounds, with all characters that are allowed."""
        if "enum" in here:
            return self.random.choice(here["enum"])
        member = next(s for s in reversed(steps) if isinstance(s, str))
        least, most = here.get("min", 0), here.get("max", 300)
        if "pattern" in here:
            return self.text("!~aZ09", least, most)
        if "httpRetryEvents" in steps:
            return self.random.choice(EVENTS)
        if member == "regex":
            return self.random.choice(EXPRESSIONS)
        if member == "virtualServiceName" and "backends" in steps:
            return self.backend()
        if member in ("virtualNode", "virtualNodeName", "virtualRouterName", "virtualServiceName"):
            return self.random.choice([NAME, LONGEST])
        if member == "prefix" and name == "String":
            return "/" + self.text(ANY, 0, 300)
        if steps[-3:] == ("rewrite", "prefix", "value"):
            return self.random.choice(["/", f"/{self.text(ANY, 0, 253)}/"])
        return self.text(ANY, least, most)

    def backend(self):
        """What a backend may be called: anything that can be printed, or a full ARN."""
        name = "s" + self.text(PRINTABLE, 0, 254)
        if self.random.random() < 0.2:
            return f"arn:aws:appmesh:{REGION}:{ACCOUNT}:mesh/{self.random.choice(['a', LONGEST])}/virtualService/{name}"
        return name

    def text(self, alphabet, least, most):
        """Text of random length: often short, at times as long as can be."""
        length = self.random.choice(
            [least, most, self.random.randint(least, most), *[self.random.randint(least, min(most, least + 12))] * 3]
        )
        return "".join(self.random.choices(alphabet, k=length))
