"""Writes the files vectors/botocore-*.txtar: requests signed by botocore.

Run by hand where botocore is installed (written with 1.44.5):
    python3 sign_vectors.py vectors
The keys are made up and the clock stands still, so the same files come out again.
"""
import datetime
import pathlib
import sys

import botocore
import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

KEY = "FLAKTESTTESTTESTTEST"
SECRET = "not+a/real+secret/only+for+the+tests+abcd"
NOW = datetime.datetime(2026, 11, 22, 10, 11, 12, tzinfo=datetime.timezone.utc)
BASE = "http://127.0.0.1:9080"
JSON = {"Content-Type": "application/json"}

CASES = {
    "get": ("GET", "/v20190125/meshes", {}, ""),
    "escaped-path": ("GET", "/v20190125/meshes/shop/virtualServices/a%2Fb%20c%3A8%40x%2B", {}, ""),
    "query": ("GET", "/v20190125/tags?resourceArn=arn%3Aaws%3Aappmesh%3Aus-east-1%3A000000000001%3Amesh%2Fshop&limit=1", {}, ""),
    "query-order": ("GET", "/v20190125/meshes?nextToken=b%2Bc%3D&limit=10&a=2&a=1&a-b=3&empty=", {}, ""),
    "put": ("PUT", "/v20190125/meshes", JSON, '{"meshName":"shop","spec":{},"clientToken":"t-1"}'),
    "delete": ("DELETE", "/v20190125/meshes/shop", {}, ""),
    "dot-segments": ("GET", "/v20190125//meshes/./shop/x/../virtualNodes/", {}, ""),
    "spaces": ("GET", "/v20190125/meshes", {"X-Amz-Note": "  a   b  c "}, ""),
    "date-header": ("GET", "/v20190125/meshes", {"Date": "x"}, ""),
    "stream": ("POST", "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
               {"Content-Type": "application/grpc", "X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}, ""),
}


def main(folder):
    botocore.auth.get_current_datetime = lambda *a, **k: NOW.replace(tzinfo=None)
    for name, (method, target, headers, body) in CASES.items():
        request = AWSRequest(method=method, url=BASE + target, headers=dict(headers), data=body.encode())
        botocore.auth.SigV4Auth(Credentials(KEY, SECRET), "appmesh", "us-east-1").add_auth(request)
        lines = [f"Signed by botocore {botocore.__version__}; see sign_vectors.py.", "-- now --", NOW.strftime("%Y%m%dT%H%M%SZ"),
                 "-- request --", f"{method} {target} HTTP/1.1", "Host: 127.0.0.1:9080"]
        lines += [f"{k}: {v}" for k, v in request.headers.items()]
        pathlib.Path(folder, f"botocore-{name}.txtar").write_text("\n".join(lines + ["", body, ""]))


if __name__ == "__main__":
    main(sys.argv[1])
