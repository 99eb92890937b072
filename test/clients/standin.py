"""Runs moto's server, a stand-in for AWS's own Cloud Map and STS, as a process of its own: what moto does to botocore when it is imported stays there.

Each line on standard input is a command, and each is answered with a line: "start PORT" listens (0 is any free port) and says the port,
"stop" stops listening and says so. What was registered stays in between, as it does in a service that cannot be reached for a while.
"""

import sys

from moto.server import ThreadedMotoServer


def main():
    server = None
    for line in sys.stdin:
        match line.split():
            case ["start", port]:
                server = ThreadedMotoServer(ip_address="127.0.0.1", port=int(port), verbose=False)
                server.start()
                print(server.get_host_and_port()[1], flush=True)
            case ["stop"]:
                server.stop()
                print("stopped", flush=True)


if __name__ == "__main__":
    main()
