"""Load on a server by wrk, and what it measured. It knows requests and wrk's words, not servers."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

SCRIPT = """
local file = assert(io.open("{body}", "rb"))
wrk.method = "POST"
wrk.body = file:read("*a")
file:close()
{headers}
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format('RESULT {{"requests": %d, "us": %d, "p50_us": %d, "p99_us": %d, "failed": %d}}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


class Request(NamedTuple):
    """What is sent again and again: a POST of a body to a path."""

    path: str
    body: bytes
    headers: dict[str, str]


class Load(NamedTuple):
    """What came of it: answers a second, latencies in milliseconds, and requests that failed."""

    rate: float
    p50_ms: float
    p99_ms: float
    failed: int


def load(port: int, request: Request, connections: int, seconds: int) -> Load:
    """Sends the request on so many connections, each the next one when the last was answered. Raises RuntimeError
    where wrk says something else than expected."""
    with tempfile.TemporaryDirectory() as folder:
        body, script = Path(folder) / "body", Path(folder) / "request.lua"
        body.write_bytes(request.body)
        headers = "\n".join(f"wrk.headers[{json.dumps(name)}] = {json.dumps(v)}" for name, v in request.headers.items())
        script.write_text(SCRIPT.format(body=body, headers=headers))
        url = f"http://127.0.0.1:{port}{request.path}"
        options = ["--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s"]
        command = ["wrk", *options, "--timeout", "20s", "--script", str(script), url]
        done = subprocess.run(  # noqa: S603 - a command of ours
            command, capture_output=True, text=True, timeout=seconds + 60, check=False
        )
    found = re.search(r"^RESULT (.*)$", done.stdout, flags=re.M)
    if found is None:
        raise RuntimeError(f"wrk said {done.stdout!r} {done.stderr!r}")
    said = json.loads(found[1])
    return Load(said["requests"] / said["us"] * 1e6, said["p50_us"] / 1e3, said["p99_us"] / 1e3, said["failed"])
