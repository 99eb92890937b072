"""The AWS CLI without the second that it takes to start: runs the commands that come as lines of JSON.

A command is {"args": ..., "env": ..., "cwd": ..., "clock": seconds}, the answer {"code": ..., "stdout": ..., "stderr": ...}.
This is a process of its own because to import awscli puts its own botocore in the place of boto3's.
"""

import contextlib
import datetime
import io
import json
import os
import sys
import unittest.mock

import botocore.auth
from awscli.clidriver import create_clidriver


def run(args, env, cwd, clock):
    """Runs one command as "aws" would, with a clock that is wrong by so many seconds."""

    def now(remove_tzinfo=True):
        time = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=clock)
        return time.replace(tzinfo=None) if remove_tzinfo else time

    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    os.chdir(cwd)
    with (
        unittest.mock.patch.dict(os.environ, env),
        unittest.mock.patch.object(botocore.auth, "get_current_datetime", now),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            code = create_clidriver().main(args)
        except SystemExit as end:
            code = end.code
    return {"code": code, "stdout": out.buffer.getvalue().decode(), "stderr": err.buffer.getvalue().decode()}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(run(**json.loads(line))), flush=True)
