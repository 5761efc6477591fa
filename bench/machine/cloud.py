"""Which cloud instance this is, by the cloud's own metadata service. Off a cloud nobody is asked.

The firmware's tables (DMI) name the cloud, and that one alone is asked, at its link-local address:
no name is looked up, no proxy used, no redirect followed. A container that hides the tables hides
the cloud too; the clouds' own variables for the service's address then say whom to ask.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.machine.files import ROOT, read

ADDRESS = "http://169.254.169.254"
TIMEOUT_S = 1.0
"""For all questions together. The service is on the host and answers in milliseconds or not at all."""

MOST_BYTES = 65536

AZURE_TAG = "7783-7084-3265-9085-8269-3286-77"
"""DMI chassis asset tag of Azure's machines, which Hyper-V elsewhere lacks. Source: cloud-init, ds-identify."""

AWS_OFF, AWS_ADDRESS = "AWS_EC2_METADATA_DISABLED", "AWS_EC2_METADATA_SERVICE_ENDPOINT"
GCP_HOST = "GCE_METADATA_HOST"
"""Sources: AWS SDKs and Tools reference guide, IMDS client; google-auth, environment_vars."""

UNKNOWN: Mapping[str, str | None] = {"provider": None, "type": None, "region": None, "zone": None, "lifecycle": None,
                                     "accelerator_type": None, "source": None, "reason": None}

NAME = r"[a-z0-9]+(-[a-z0-9]+)*"
EC2_TYPE = rf"{NAME}\.{NAME}"
FORMS = {"region": NAME, "zone": NAME, "accelerator_type": NAME, "lifecycle": r"on-demand|spot|capacity-block"}
TYPES = {"aws": EC2_TYPE, "gcp": NAME, "azure": r"[A-Z][A-Za-z]+(_[A-Za-z0-9-]+)+"}
"""What an answer must look like: a captive portal answers too, with its log-in page."""

SOURCES = {"aws": "aws-imdsv2", "gcp": "gcp-metadata", "azure": "azure-imds"}
SERVICES = {"aws": "EC2's metadata service", "gcp": "Google's metadata server", "azure": "Azure's metadata service"}
NAME_IT = "pass --instance-type to name the instance"

Facts = dict[str, str | None]


def instance(asked: str | None = None, *, root: Path = ROOT, environ: Mapping[str, str] = os.environ,
             address: str | None = None) -> dict[str, Any]:
    """Return what cloud instance this is; what is unknown is None, and `reason` says why.

    `asked`: the user's word, which is taken as it is; "none" asks nobody. Keys: `provider` (aws, gcp,
    azure), `type`, `region`, `zone`, `lifecycle` (on-demand, spot, capacity-block), `accelerator_type`
    (of a Cloud TPU slice), `source` (user, aws-imdsv2, gcp-metadata, azure-imds, or dmi where EC2's
    firmware names the type and its service does not answer), `reason`. Nothing that names one
    machine or account is kept. Below 5 ms off a cloud; at most `TIMEOUT_S` on one.
    """
    if asked == "none":
        return dict(UNKNOWN) | {"reason": "--instance-type none: nobody was asked"}
    if asked:
        return dict(UNKNOWN) | {"type": asked, "source": "user"}
    provider = _provider(root, environ)
    if provider is None:
        return dict(UNKNOWN) | {"reason": f"{_why_nobody(root)}: {NAME_IT}"}
    found = dict(UNKNOWN) | {"provider": provider}
    if provider == "aws" and environ.get(AWS_OFF, "").lower() == "true":
        return found | _by_firmware(root, f"{AWS_OFF}=true: EC2 was not asked")
    try:
        service = _Service(address or _address(provider, environ), time.monotonic() + TIMEOUT_S)
        return found | _checked(provider, ASK[provider](service))
    except TimeoutError:
        why = (f"{SERVICES[provider]} did not answer within {TIMEOUT_S:g} s; in a container it may be out of reach "
               "(on EC2: raise the hop limit to 2)")
    except (OSError, ValueError) as error:
        why = f"{SERVICES[provider]} could not be asked: {error}"
    return found | (_by_firmware(root, why) if provider == "aws" else {"reason": f"{why}: {NAME_IT}"})


def _dmi(root: Path, name: str) -> str:
    return read(root, f"sys/class/dmi/id/{name}") or ""


def _provider(root: Path, environ: Mapping[str, str]) -> str | None:
    """The cloud that the firmware names, or that the environment points to.

    Sources: AWS, "Identify EC2 instances" (Nitro: vendor "Amazon EC2"; Xen: an UUID that starts with
    ec2, a version that ends in .amazon); cloud-init, ds-identify (Google, Azure).
    """
    if ("Amazon EC2" in (_dmi(root, "sys_vendor"), _dmi(root, "board_vendor"))
            or _dmi(root, "product_version").endswith(".amazon")
            or (read(root, "sys/hypervisor/uuid") or "").startswith("ec2")):
        return "aws"
    if _dmi(root, "product_name") == "Google Compute Engine":
        return "gcp"
    if _dmi(root, "chassis_asset_tag") == AZURE_TAG:
        return "azure"
    return "aws" if environ.get(AWS_ADDRESS) else "gcp" if environ.get(GCP_HOST) else None


def _why_nobody(root: Path) -> str:
    vendor = _dmi(root, "sys_vendor")
    return (f"the firmware names no cloud asked here but {vendor!r}" if vendor else
            "no firmware tables (DMI) here say which cloud this may be")


def _address(provider: str, environ: Mapping[str, str]) -> str:
    if provider == "aws":
        return environ.get(AWS_ADDRESS) or ADDRESS
    return f"http://{environ[GCP_HOST]}" if provider == "gcp" and environ.get(GCP_HOST) else ADDRESS


def _by_firmware(root: Path, why: str) -> Facts:
    """EC2's type from DMI: on Nitro the product's name is the instance type, e.g. "trn1.32xlarge"."""
    name = _dmi(root, "product_name")
    if not re.fullmatch(EC2_TYPE, name):
        return {"reason": f"{why}: {NAME_IT}"}
    return {"type": name, "source": "dmi", "reason": f"region, zone and lifecycle: {why}"}


@dataclass(frozen=True, slots=True)
class _Service:
    """A metadata service at an address, to be asked until a deadline of time.monotonic()."""

    address: str
    deadline_s: float

    def get(self, path: str, headers: Mapping[str, str], method: str = "GET") -> str | None:
        """Return an answer's text, None where there is no such thing (404).

        Raises TimeoutError past the deadline, OSError where nobody answers as a metadata service
        would. One connection a question: on the host it takes below a millisecond.
        """
        from http.client import HTTPConnection, HTTPException  # 25 ms to import, and off a cloud not needed
        from urllib.parse import urlsplit

        url = urlsplit(self.address)
        if url.scheme != "http" or not url.hostname:
            raise ValueError(f"{self.address!r} is no http:// address")
        left_s = self.deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        connection = HTTPConnection(url.hostname, url.port, timeout=left_s)
        try:
            connection.request(method, url.path.rstrip("/") + path, headers=dict(headers))
            response = connection.getresponse()
            text = response.read(MOST_BYTES).decode("utf-8", "replace").strip()
        except HTTPException as error:
            raise OSError(f"{method} {path} got no answer in HTTP: {error!r}") from error
        finally:
            connection.close()
        if response.status == 404:
            return None
        if response.status != 200:
            raise OSError(f"{method} {path} was answered with status {response.status}")
        return text


def _aws(service: _Service) -> Facts:
    """Source: Amazon EC2 user guide, "Use IMDSv2" and "Instance metadata categories"."""
    token = service.get("/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}, "PUT")
    if not re.fullmatch(r"[A-Za-z0-9+/=_-]{1,1024}", token or ""):
        raise ValueError("what it gave is no session token")

    def get(path: str) -> str | None:
        return service.get(f"/latest/meta-data/{path}", {"X-aws-ec2-metadata-token": str(token)})

    return {"type": get("instance-type"), "region": get("placement/region"),
            "zone": get("placement/availability-zone"), "lifecycle": get("instance-life-cycle")}


def _gcp(service: _Service) -> Facts:
    """Source: Compute Engine, "Predefined metadata keys". Spot machines are preemptible ones there.

    Types and zones come as projects/NUMBER/machineTypes/NAME; only the name is kept. TPU machines
    have their slice's type, e.g. v5litepod-16, as the attribute accelerator-type.
    """
    def get(path: str) -> str | None:
        text = service.get(f"/computeMetadata/v1/instance/{path}", {"Metadata-Flavor": "Google"})
        return text.rpartition("/")[2] if text and text.startswith("projects/") else text

    zone, preemptible = get("zone"), get("scheduling/preemptible")
    return {"type": get("machine-type"), "region": zone and zone.rpartition("-")[0], "zone": zone,
            "lifecycle": {"TRUE": "spot", "FALSE": "on-demand"}.get(preemptible or "", preemptible),
            "accelerator_type": get("attributes/accelerator-type")}


def _azure(service: _Service) -> Facts:
    """Source: Azure Instance Metadata Service. A machine in no availability zone has the zone ""."""
    text = service.get("/metadata/instance/compute?api-version=2021-02-01", {"Metadata": "true"})
    answer = json.loads(text or "{}")
    if not isinstance(answer, dict):
        raise ValueError("what it gave describes no machine")
    compute = {key: value for key, value in answer.items() if isinstance(value, str)}
    priority = compute.get("priority", "")
    return {"type": compute.get("vmSize"), "region": compute.get("location"), "zone": compute.get("zone"),
            "lifecycle": {"Regular": "on-demand", "Spot": "spot", "Low": "spot"}.get(priority, priority)}


ASK: Mapping[str, Callable[[_Service], Facts]] = {"aws": _aws, "gcp": _gcp, "azure": _azure}


def _checked(provider: str, facts: Facts) -> Facts:
    """The answers that look like what they should be, and a reason for those that do not."""
    forms = FORMS | {"type": TYPES[provider]}
    good = {key: text if text and re.fullmatch(forms[key], text) else None for key, text in facts.items()}
    odd = [f"{key} ({text[:40]!r})" if text else key for key in ("type", "region", "lifecycle")
           for text in (facts.get(key),) if good.get(key) is None]
    reason = f"{SERVICES[provider]} gave no usable {', '.join(odd)}" if odd else None
    if good.get("type") is None:
        reason = f"{reason}: {NAME_IT}"
    return good | {"source": SOURCES[provider] if any(good.values()) else None, "reason": reason}
