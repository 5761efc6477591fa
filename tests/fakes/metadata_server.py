"""A cloud's metadata service on loopback: it answers as AWS, Google or Azure do, and as strictly.

Its texts hold what a record must never keep: account, project and machine ids, host names.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

AWS = {"instance-type": "trn2.48xlarge", "placement/region": "us-east-2", "placement/availability-zone": "us-east-2b",
       "instance-life-cycle": "spot", "instance-id": "i-0secret0secret", "hostname": "ip-10-0-0-1.secret.internal"}
GCP = {"machine-type": "projects/123456secret/machineTypes/ct5lp-hightpu-4t",
       "zone": "projects/123456secret/zones/us-west4-a", "scheduling/preemptible": "FALSE",
       "attributes/accelerator-type": "v5litepod-16", "id": "secret"}
AZURE = {"vmSize": "Standard_ND96isr_H100_v5", "location": "eastus2", "zone": "1", "priority": "Spot",
         "subscriptionId": "secret", "vmId": "secret", "name": "secret", "resourceGroupName": "secret"}
TOKEN = "AQAEAsecret-_token=="


class MetadataServer:
    """`with MetadataServer("aws") as server: ... server.address`; `server.seen` holds the questions.

    `cloud`: aws, gcp, azure, or "portal", which gives its log-in page to everyone, or "moved", which
    redirects. `texts`: in place of the cloud's usual ones; None in it answers 404. `status`: what every
    question is answered with. `delay_s`: how long it thinks.
    """

    def __init__(self, cloud: str, texts: Mapping[str, Any] | None = None, *, status: int = 200,
                 delay_s: float = 0.0) -> None:
        usual: Mapping[str, Any] = {"aws": AWS, "gcp": GCP, "azure": AZURE}.get(cloud, {})
        self.cloud, self.texts, self.status, self.delay_s = cloud, {**usual, **(texts or {})}, status, delay_s
        self.seen: list[str] = []

    def __enter__(self) -> MetadataServer:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def _serve(self) -> None:
                owner.seen.append(f"{self.command} {self.path}")
                time.sleep(owner.delay_s)
                status, text = owner.answer(self.command, self.path, dict(self.headers.items()))
                body = text.encode()
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", f"{owner.address}/elsewhere")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_PUT = _serve

            def log_message(self, *_: Any) -> None:
                """Quiet: `seen` has it."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def answer(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, str]:
        if self.status != 200:
            return self.status, "refused"
        if self.cloud == "portal":
            return 200, "<html><body>Welcome to our network. Please log in.</body></html>"
        if self.cloud == "moved":
            return 302, ""
        answer: tuple[int, str] = getattr(self, f"_{self.cloud}")(method, path, {k.lower(): v for k, v in
                                                                                  headers.items()})
        return answer

    def _text(self, key: str) -> tuple[int, str]:
        text = self.texts.get(key)
        return (404, "Not Found") if text is None else (200, text)

    def _aws(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, str]:
        if path == "/latest/api/token":
            seconds = headers.get("x-aws-ec2-metadata-token-ttl-seconds", "")
            return (200, TOKEN) if method == "PUT" and seconds.isdigit() else (400, "Bad Request")
        if headers.get("x-aws-ec2-metadata-token") != TOKEN:
            return 401, "Unauthorized"
        return self._text(path.removeprefix("/latest/meta-data/"))

    def _gcp(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, str]:
        if headers.get("metadata-flavor") != "Google":
            return 403, "Forbidden"
        return self._text(path.removeprefix("/computeMetadata/v1/instance/"))

    def _azure(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, str]:
        if headers.get("metadata") != "true" or "api-version=" not in path:
            return 400, "Bad Request"
        known = path.startswith("/metadata/instance/compute?")
        return (200, json.dumps(self.texts)) if known else (404, "Not Found")
