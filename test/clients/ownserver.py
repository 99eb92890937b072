"""Fixtures of the tests that send thousands of requests: a control plane of their own, and a line of figures in the output."""

import pytest


@pytest.fixture
def report(capsys):
    """Prints a line, whether the test passes or not: how much was tried, and how to try it again."""

    def say(line):
        with capsys.disabled():
            print(f"\n{line}", end="", flush=True)

    return say


@pytest.fixture(scope="module")
def own_server(servers):
    """A control plane for one file of tests alone, which fill it with objects of any names."""
    server = servers().start()
    yield server
    server.close()
