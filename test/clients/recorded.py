"""AWS's own recordings of App Mesh: the examples in the AWS CLI's documentation, read from the installed package.

Each is a command as it was typed, the files that it reads and what App Mesh answered.
"""

import dataclasses
import importlib.metadata
import json
import re
import shlex


@dataclasses.dataclass
class Recording:
    """One command and its answer."""

    id: str  # the command's name, with a number behind it if there are several
    args: list  # without "aws appmesh"
    files: dict  # what the command reads: {name: content}
    output: dict  # None where the command prints nothing

    @property
    def request(self):
        """The JSON that the command is given."""
        return json.loads(next(iter(self.files.values())))

    @property
    def region(self):
        """The region of the ARNs in the answer."""
        found = re.search(r"arn:aws:appmesh:([a-z0-9-]+):", json.dumps(self.output) + " ".join(self.args))
        return found[1] if found else "us-east-1"


def blocks(text):
    """The literal blocks of a document: (the paragraph in front, the block)."""
    for found in re.finditer(r"^(\S[^\n]*)::[ \t]*\n((?:[ \t]*\n|[ \t]+\S[^\n]*(?:\n|\Z))+)", text, re.MULTILINE):
        yield found[1].strip(), found[2].strip()


def parse(command, text):
    """The recordings in one document."""
    recordings = []
    for before, block in blocks(text):
        if block.startswith("aws appmesh "):
            recordings.append(Recording(command, shlex.split(block.replace("\\\n", " "))[2:], {}, None))
        elif name := re.fullmatch(r"Contents of `*([\w.-]+?)`*", before):
            recordings[-1].files[name[1]] = block
        elif before == "Output":
            recordings[-1].output = json.loads(block)
        else:
            raise ValueError(f"{command}: a block behind {before!r} is neither a command nor a file nor an output")
    if len(recordings) > 1:
        for number, recording in enumerate(recordings, 1):
            recording.id = f"{command} {number}"
    return recordings


def load():
    """All recordings: {id: Recording}."""
    documents = [f for f in importlib.metadata.files("awscli") if f.match("awscli/examples/appmesh/*.rst")]
    found = [r for f in documents for r in parse(f.stem, f.locate().read_text(encoding="utf-8"))]
    return {r.id: r for r in found}
