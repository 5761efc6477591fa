"""Which cloud instance this is: fake metadata services on loopback, fake firmware tables."""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from bench.machine import cloud, describe
from bench.machine.cloud import AZURE_TAG, instance
from tests.commandline import trnbench
from tests.fakes.metadata_server import MetadataServer

DMI = {"aws": {"sys_vendor": "Amazon EC2", "board_vendor": "Amazon EC2", "product_name": "trn2.48xlarge",
               "board_asset_tag": "i-0secret0secret"},
       "gcp": {"sys_vendor": "Google", "product_name": "Google Compute Engine"},
       "azure": {"sys_vendor": "Microsoft Corporation", "product_name": "Virtual Machine",
                 "chassis_asset_tag": AZURE_TAG},
       "other": {"sys_vendor": "Dell Inc.", "product_name": "PowerEdge R760"}}
NOBODY: dict[str, str] = {}


def firmware(root: Path, **tables: str) -> Path:
    folder = root / "sys/class/dmi/id"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in tables.items():
        (folder / name).write_text(text + "\n")
    return root


def on(cloud_name: str, root: Path, server: MetadataServer | None = None, **options: Any) -> dict[str, Any]:
    return instance(root=firmware(root, **DMI[cloud_name]), environ=NOBODY,
                    address=server.address if server else "http://127.0.0.1:9", **options)


# What each cloud says


def test_ec2_is_asked_with_a_session_token(tmp_path: Path) -> None:
    with MetadataServer("aws") as server:
        found = on("aws", tmp_path, server)
    assert found == {"provider": "aws", "type": "trn2.48xlarge", "region": "us-east-2", "zone": "us-east-2b",
                     "lifecycle": "spot", "accelerator_type": None, "source": "aws-imdsv2", "reason": None}
    assert server.seen[0] == "PUT /latest/api/token"


def test_google_says_its_names_behind_the_projects_number_which_is_not_kept(tmp_path: Path) -> None:
    with MetadataServer("gcp") as server:
        found = on("gcp", tmp_path, server)
    assert found == {"provider": "gcp", "type": "ct5lp-hightpu-4t", "region": "us-west4", "zone": "us-west4-a",
                     "lifecycle": "on-demand", "accelerator_type": "v5litepod-16", "source": "gcp-metadata",
                     "reason": None}


def test_a_google_machine_without_a_tpu_has_no_accelerator_type(tmp_path: Path) -> None:
    texts = {"attributes/accelerator-type": None, "machine-type": "projects/1/machineTypes/a3-highgpu-8g",
             "scheduling/preemptible": "TRUE"}
    with MetadataServer("gcp", texts) as server:
        found = on("gcp", tmp_path, server)
    assert (found["type"], found["lifecycle"], found["accelerator_type"]) == ("a3-highgpu-8g", "spot", None)
    assert found["reason"] is None


@pytest.mark.parametrize(("priority", "lifecycle"), [("Spot", "spot"), ("Low", "spot"), ("Regular", "on-demand")])
def test_azure_says_its_size_and_priority(tmp_path: Path, priority: str, lifecycle: str) -> None:
    with MetadataServer("azure", {"priority": priority}) as server:
        found = on("azure", tmp_path, server)
    assert found == {"provider": "azure", "type": "Standard_ND96isr_H100_v5", "region": "eastus2", "zone": "1",
                     "lifecycle": lifecycle, "accelerator_type": None, "source": "azure-imds", "reason": None}


@pytest.mark.parametrize("name", ["aws", "gcp", "azure"])
def test_nothing_that_names_one_machine_or_account_is_kept(tmp_path: Path, name: str) -> None:
    with MetadataServer(name) as server:
        found = on(name, tmp_path, server)
    assert found["type"]
    assert "secret" not in json.dumps(found)


# What is not said


def test_what_one_question_leaves_open_is_none_with_a_reason_and_the_rest_is_kept(tmp_path: Path) -> None:
    with MetadataServer("aws", {"placement/region": None, "instance-life-cycle": "scheduled"}) as server:
        found = on("aws", tmp_path, server)
    assert (found["type"], found["zone"]) == ("trn2.48xlarge", "us-east-2b")
    assert (found["region"], found["lifecycle"]) == (None, None)
    assert found["reason"] == "EC2's metadata service gave no usable region, lifecycle ('scheduled')"


def test_a_machine_of_azure_whose_priority_is_empty_is_not_called_on_demand(tmp_path: Path) -> None:
    with MetadataServer("azure", {"priority": "", "zone": ""}) as server:
        found = on("azure", tmp_path, server)
    assert (found["lifecycle"], found["zone"]) == (None, None)
    assert "lifecycle" in found["reason"]


@pytest.mark.parametrize("name", ["gcp", "azure"])
@pytest.mark.parametrize("stranger", ["portal", "moved"])
def test_a_captive_portal_is_no_metadata_service(tmp_path: Path, name: str, stranger: str) -> None:
    with MetadataServer(stranger) as server:
        found = on(name, tmp_path, server)
    assert (found["type"], found["source"]) == (None, None)
    assert "--instance-type" in found["reason"]
    assert not any("elsewhere" in question for question in server.seen)  # a redirect is not followed


def test_on_ec2_the_firmware_still_names_the_type_where_the_service_does_not_answer(tmp_path: Path) -> None:
    for server in (MetadataServer("portal"), MetadataServer("aws", status=403)):
        with server:
            found = on("aws", tmp_path, server)
        assert (found["type"], found["source"], found["region"]) == ("trn2.48xlarge", "dmi", None)
        assert "region, zone and lifecycle: EC2's metadata service" in found["reason"]


def test_a_firmware_that_names_no_instance_type_is_not_taken_for_one(tmp_path: Path) -> None:
    with MetadataServer("aws", status=403) as server:
        found = instance(root=firmware(tmp_path, sys_vendor="Xen", product_version="4.11.amazon",
                                       product_name="HVM domU"), environ=NOBODY, address=server.address)
    assert (found["provider"], found["type"]) == ("aws", None)
    assert "403" in found["reason"]


def test_a_service_that_does_not_answer_costs_no_more_than_the_timeout(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloud, "TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and never answers
        started = time.monotonic()
        found = instance(root=firmware(tmp_path, **DMI["gcp"]), environ=NOBODY,
                         address=f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert time.monotonic() - started < 1.0
    assert "did not answer within 0.2 s" in found["reason"]
    assert "--instance-type" in found["reason"]


def test_slow_answers_share_one_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloud, "TIMEOUT_S", 0.4)
    with MetadataServer("aws", delay_s=0.15) as server:  # five questions would take 0.75 s
        started = time.monotonic()
        found = on("aws", tmp_path, server)
        assert time.monotonic() - started < 0.7
    assert found["source"] == "dmi"


def test_what_is_no_http_is_a_reason(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        def greet() -> None:
            with stranger.accept()[0] as line:
                line.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")

        threading.Thread(target=greet, daemon=True).start()
        found = instance(root=firmware(tmp_path, **DMI["gcp"]), environ=NOBODY,
                         address=f"http://127.0.0.1:{stranger.getsockname()[1]}")
    assert found["type"] is None
    assert "could not be asked" in found["reason"]


def test_a_refused_connection_is_a_reason(tmp_path: Path) -> None:
    assert "could not be asked" in on("gcp", tmp_path)["reason"]


# Who is asked


@pytest.mark.parametrize("name", ["aws", "gcp", "azure"])
def test_only_the_cloud_that_the_firmware_names_is_asked(tmp_path: Path, name: str) -> None:
    with MetadataServer(name) as server:
        assert on(name, tmp_path, server)["provider"] == name
    roots = {"aws": "/latest/", "gcp": "/computeMetadata/", "azure": "/metadata/"}
    assert all(question.split()[1].startswith(roots[name]) for question in server.seen)


@pytest.mark.parametrize("tables", [DMI["other"], {"sys_vendor": "Microsoft Corporation"},
                                    {"sys_vendor": "Google"}, {}])
def test_off_a_cloud_nobody_is_asked_and_it_takes_no_time(tmp_path: Path, tables: dict[str, str]) -> None:
    # Hyper-V at home and a Chromebook have the vendors of Azure and Google.
    root, times = firmware(tmp_path, **tables), []
    with MetadataServer("aws") as server:
        for _ in range(3):
            started = time.perf_counter()
            found = instance(root=root, environ=NOBODY, address=server.address)
            times.append(time.perf_counter() - started)
    assert server.seen == []
    assert min(times) < 0.02
    assert (found["provider"], found["type"], found["source"]) == (None, None, None)
    assert "--instance-type" in found["reason"]


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every address that anybody connects to or looks up, refused."""
    tried: list[Any] = []

    def refuse(*address: Any) -> Any:
        tried.append(address)
        raise OSError("no network here")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for name in ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_EC2_METADATA_DISABLED", "GCE_METADATA_HOST"):
        monkeypatch.delenv(name, raising=False)
    return tried


@pytest.mark.parametrize("tables", [DMI["other"], {}])
def test_off_a_cloud_a_description_connects_to_nobody(tmp_path: Path, connections: list[Any],
                                                      tables: dict[str, str]) -> None:
    assert "--instance-type" in describe(firmware(tmp_path, **tables))["instance"]["reason"]
    assert connections == []


@pytest.mark.parametrize("name", ["aws", "gcp", "azure"])
def test_on_a_cloud_nobody_is_connected_to_where_the_user_said_none_or_a_name(
        tmp_path: Path, connections: list[Any], name: str) -> None:
    root = firmware(tmp_path, **DMI[name])
    for asked in ("none", "my.own"):
        describe(root, instance_type=asked)
    assert connections == []
    assert describe(root)["instance"]["reason"]
    assert len(connections) == 1  # of a service that cannot be reached nothing more is asked


@pytest.mark.parametrize(("name", "questions"), [("aws", 5), ("gcp", 4), ("azure", 1)])
def test_a_cloud_is_asked_once_for_each_fact(tmp_path: Path, name: str, questions: int) -> None:
    with MetadataServer(name) as server:  # EC2: a session token first
        on(name, tmp_path, server)
    assert len(server.seen) == len(set(server.seen)) == questions


def test_the_machine_at_hand_is_described_in_time_and_without_a_name_lookup(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_lookup(host: str, *_: Any, **__: Any) -> Any:
        raise AssertionError(f"{host} was looked up")

    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: (_ for _ in ()).throw(OSError("no network")))
    monkeypatch.setattr(socket, "gethostbyname", no_lookup)
    started = time.perf_counter()
    found = instance()
    assert time.perf_counter() - started < 0.2
    assert found["type"] or found["reason"]


def test_none_asks_nobody_and_a_name_is_the_users_word(tmp_path: Path) -> None:
    with MetadataServer("aws") as server:
        none, named = on("aws", tmp_path, server, asked="none"), on("aws", tmp_path, server, asked="my.own")
    assert server.seen == []
    assert (none["type"], none["provider"]) == (None, None)
    assert "none" in none["reason"]
    assert (named["type"], named["source"], named["provider"], named["reason"]) == ("my.own", "user", None, None)


def test_where_the_firmware_is_hidden_the_clouds_own_variables_say_whom_to_ask(tmp_path: Path) -> None:
    with MetadataServer("aws") as server:
        found = instance(root=tmp_path, environ={"AWS_EC2_METADATA_SERVICE_ENDPOINT": server.address + "/"})
    assert (found["type"], found["source"]) == ("trn2.48xlarge", "aws-imdsv2")
    with MetadataServer("gcp") as server:
        found = instance(root=tmp_path, environ={"GCE_METADATA_HOST": server.address.removeprefix("http://")})
    assert (found["type"], found["source"]) == ("ct5lp-hightpu-4t", "gcp-metadata")


def test_awss_own_variable_switches_the_questions_off(tmp_path: Path) -> None:
    with MetadataServer("aws") as server:
        found = instance(root=firmware(tmp_path, **DMI["aws"]), address=server.address,
                         environ={"AWS_EC2_METADATA_DISABLED": "TRUE"})
    assert server.seen == []
    assert (found["type"], found["source"]) == ("trn2.48xlarge", "dmi")


def test_a_proxy_of_the_environment_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with MetadataServer("portal") as proxy, MetadataServer("azure") as server:
        monkeypatch.setenv("http_proxy", proxy.address)
        monkeypatch.setenv("HTTP_PROXY", proxy.address)
        found = on("azure", tmp_path, server)
    assert found["type"] == "Standard_ND96isr_H100_v5"
    assert proxy.seen == []


def test_an_address_that_is_no_http_address_is_a_reason(tmp_path: Path) -> None:
    found = instance(root=tmp_path, environ={"AWS_EC2_METADATA_SERVICE_ENDPOINT": "ftp://x"})
    assert "'ftp://x' is no http:// address" in found["reason"]


# Where it is told


def test_a_description_holds_the_instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRNBENCH_STATE_DIR", str(tmp_path / "state"))
    with MetadataServer("aws") as server:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.address)
        about = describe(firmware(tmp_path, **DMI["aws"]))
    assert (about["instance"]["type"], about["instance"]["region"]) == ("trn2.48xlarge", "us-east-2")


def test_doctor_tells_type_region_lifecycle_and_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRNBENCH_STATE_DIR", str(tmp_path))
    facts = {"provider": "aws", "type": "trn2.48xlarge", "region": "us-east-2", "zone": None, "lifecycle": "spot",
             "accelerator_type": None, "source": "aws-imdsv2", "reason": None}
    monkeypatch.setattr(cloud, "instance", lambda *_, **__: facts)
    shown = trnbench("doctor", "--quick")
    assert "instance: trn2.48xlarge in us-east-2, spot (aws-imdsv2)" in shown.output


def test_doctor_says_why_the_instance_is_unknown() -> None:
    shown = trnbench("doctor", "--quick", "--instance-type", "none")
    assert "instance: unknown: --instance-type none: nobody was asked" in shown.output
