"""docs/kubernetes.md: containerd's CRI plugin, asked as the kubelet asks it, with fastdock-oci as a RuntimeClass.

The kubelet speaks gRPC on containerd's socket; so do these tests (tests/support/cri.proto).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
from oci_bundle import make_rootfs, program

from tests.system.daemons import need, sh, stopped, wait_for_socket

pytestmark = [pytest.mark.system, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

IMAGE = "localhost/busybox:1"
OWN, NODE = 1, 2  # of NamespaceMode (CONTAINER and NODE): the container's own, the host's
RUNTIME_DEFAULT = 0  # of SecurityProfile: containerd's own filter
RUNNING, EXITED = 1, 2  # of ContainerState
CGROUP = f"fdcri-{os.getpid()}"
CONFIG = """
version = 2
root = "{place}/root"
state = "{place}/state"
[grpc]
  address = "{place}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{place}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.fastdock]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.fastdock.options]
      BinaryName = "{program}"
      SystemdCgroup = false
[plugins."io.containerd.internal.v1.opt"]
  path = "{place}/opt"
"""


def archive_of(rootfs: Path, file: Path) -> None:
    """An image as `docker save` writes it; without a command it waits, which is all that a pause image does."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.add(rootfs, ".")
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/bin/sleep", "1000000"], "Env": ["PATH=/bin"], "WorkingDir": "/made/here"},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer.getvalue()).hexdigest()]},
    }
    files = {
        "layer.tar": layer.getvalue(),
        "config.json": json.dumps(config).encode(),
        "manifest.json": json.dumps(
            [{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]
        ).encode(),
    }
    with tarfile.open(file, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A containerd with the configuration of docs/kubernetes.md, an image and a pod network."""
    need("containerd", "ctr", "containerd-shim-runc-v2", "busybox")
    with tempfile.TemporaryDirectory(
        prefix="fdcri-", dir="/var/tmp", ignore_cleanup_errors=True
    ) as directory:
        place = Path(directory)
        make_rootfs(place / "rootfs")
        archive_of(place / "rootfs", place / "image.tar")
        (place / "cni").mkdir()
        network = {
            "cniVersion": "0.4.0",
            "name": "fdcri",
            "type": "ptp",
            "ipam": {
                "type": "host-local",
                "dataDir": str(place / "addresses"),
                "ranges": [[{"subnet": "10.213.77.0/24"}]],
            },
        }
        (place / "cni/10-pods.conf").write_text(json.dumps(network))
        (place / "containerd.toml").write_text(CONFIG.format(place=place, image=IMAGE, program=program()))
        with (place / "containerd.log").open("wb") as log:
            process = Popen(
                ["containerd", "--config", str(place / "containerd.toml")], stdout=log, stderr=log
            )
        wait_for_socket(place / "containerd.sock", process)
        ctr = ("ctr", "--address", str(place / "containerd.sock"), "--namespace", "k8s.io")
        sh(*ctr, "images", "import", str(place / "image.tar"))
        yield place
        stopped(process)
        # The kubelet makes the pods' parent cgroup, and removes it.
        for parent in Path("/sys/fs/cgroup").glob(f"**/{CGROUP}"):
            parent.rmdir()


class Cri:
    """The kubelet's side: `cri.RunPodSandbox(...)`, with requests and answers of cri.proto."""

    def __init__(self, socket: Path) -> None:
        import grpc

        self.messages, _ = grpc.protos_and_services("cri.proto")
        service = self.messages.DESCRIPTOR.services_by_name["RuntimeService"]
        self.channel = grpc.insecure_channel(f"unix:{socket}")
        self.calls = {
            method.name: self.channel.unary_unary(
                f"/runtime.v1.RuntimeService/{method.name}",
                request_serializer=lambda request: request.SerializeToString(),
                response_deserializer=getattr(self.messages, method.output_type.name).FromString,
            )
            for method in service.methods
        }
        self.requests = {method.name: method.input_type.name for method in service.methods}

    def __getattr__(self, name: str) -> Any:
        request = getattr(self.messages, self.requests[name])
        return lambda **fields: self.calls[name](request(**fields), timeout=60)


@pytest.fixture(scope="module")
def cri(place: Path) -> Iterator[Cri]:
    made = Cri(place / "containerd.sock")
    yield made
    made.channel.close()


class Pod:
    """A sandbox, and the containers in it."""

    def __init__(self, cri: Cri, place: Path, name: str, **security: Any) -> None:
        self.cri = cri
        self.config = {
            "metadata": {"name": name, "uid": name, "namespace": "default"},
            "log_directory": str(place / "logs"),
            "linux": {"cgroup_parent": f"/{CGROUP}", "security_context": security},
        }
        if not security:
            self.config["hostname"] = name
        self.id = cri.RunPodSandbox(config=self.config, runtime_handler="fastdock").pod_sandbox_id
        self.containers: list[str] = []

    def start(self, name: str, *command: str, **settings: Any) -> str:
        config = {
            "metadata": {"name": name},
            "image": {"image": IMAGE},
            "command": command,
            "log_path": f"{name}.log",
            **settings,
        }
        made = self.cri.CreateContainer(pod_sandbox_id=self.id, config=config, sandbox_config=self.config)
        self.containers.append(made.container_id)
        self.cri.StartContainer(container_id=made.container_id)
        return str(made.container_id)

    def shell(self, container: str, script: str) -> str:
        done = self.cri.ExecSync(container_id=container, cmd=["sh", "-c", script], timeout=30)
        assert done.exit_code == 0, done
        return str(done.stdout.decode())

    def remove(self) -> None:
        for container in self.containers:
            self.cri.RemoveContainer(container_id=container)
        self.cri.StopPodSandbox(pod_sandbox_id=self.id)
        self.cri.RemovePodSandbox(pod_sandbox_id=self.id)


@pytest.fixture
def pod(cri: Cri, place: Path, request: pytest.FixtureRequest) -> Iterator[Pod]:
    """A pod on the pod network."""
    made = Pod(cri, place, re.sub(r"\W|_", "-", request.node.name))
    yield made
    made.remove()


def wait_for_state(cri: Cri, container: str, state: int) -> Any:
    """Its status, once it is in that state."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        status = cri.ContainerStatus(container_id=container).status
        if status.state == state:
            return status
        time.sleep(0.05)
    pytest.fail(f"{container} did not come to state {state}")


def wait_for_text(file: Path, text: str) -> None:
    deadline = time.monotonic() + 60
    while text not in file.read_text():
        assert time.monotonic() < deadline, file.read_text()
        time.sleep(0.05)


def test_the_node_is_ready(cri: Cri) -> None:
    conditions = {each.type: each.status for each in cri.Status().status.conditions}
    assert conditions == {"RuntimeReady": True, "NetworkReady": True}


def test_a_pod_of_two_containers(cri: Cri, pod: Pod) -> None:
    """They share the network and the host name, and each has its own processes."""
    status = cri.PodSandboxStatus(pod_sandbox_id=pod.id).status
    assert status.runtime_handler == "fastdock"
    assert status.network.ip.startswith("10.213.77.")
    own = {"security_context": {"namespace_options": {"pid": OWN}}}
    first = pod.start("first", "sleep", "1000", linux=own)
    second = pod.start("second", "sleep", "1000", linux=own)
    assert wait_for_state(cri, first, RUNNING)
    for container in (first, second):
        assert status.network.ip in pod.shell(container, "ip address show eth0")
        assert pod.shell(container, "hostname").strip() == "test-a-pod-of-two-containers"
    assert len({pod.shell(each, "readlink /proc/1/ns/pid") for each in (first, second)}) == 2
    assert len({pod.shell(each, "readlink /proc/1/ns/net") for each in (first, second)}) == 1


def test_the_working_directory_of_an_image_is_made(pod: Pod) -> None:
    """containerd leaves that to the runtime."""
    assert pod.shell(pod.start("c", "sleep", "1000"), "readlink /proc/1/cwd") == "/made/here\n"


def test_settings_of_a_container(cri: Cri, pod: Pod, place: Path) -> None:
    (place / "data").mkdir(mode=0o755)
    (place / "data/file").write_text("mounted")
    container = pod.start(
        "c",
        "sleep",
        "1000",
        envs=[{"key": "GREETING", "value": "hello"}],
        mounts=[{"container_path": "/data", "host_path": str(place / "data"), "readonly": True}],
        linux={
            "resources": {"memory_limit_in_bytes": 64 << 20, "cpu_shares": 512, "oom_score_adj": 500},
            "security_context": {
                "run_as_user": {"value": 1000},
                "no_new_privs": True,
                "namespace_options": {"pid": OWN},
                "seccomp": {"profile_type": RUNTIME_DEFAULT},
            },
        },
    )
    assert pod.shell(
        container,
        "id -u; echo $GREETING; cat /data/file; echo; touch /data/x 2>/dev/null || echo refused;"
        "cat /proc/1/oom_score_adj; grep -E 'NoNewPrivs|Seccomp:' /proc/1/status | cut -f2",
    ).split() == ["1000", "hello", "mounted", "refused", "500", "1", "2"]
    stats = cri.ContainerStats(container_id=container).stats
    assert stats.cpu.usage_core_nano_seconds.value > 0
    assert 0 < stats.memory.working_set_bytes.value < 64 << 20
    cri.UpdateContainerResources(container_id=container, linux={"memory_limit_in_bytes": 32 << 20})


def test_exec(cri: Cri, pod: Pod) -> None:
    container = pod.start("c", "sleep", "1000")
    done = cri.ExecSync(container_id=container, cmd=["sh", "-c", "echo out; echo err >&2; exit 5"])
    assert (done.stdout, done.stderr, done.exit_code) == (b"out\n", b"err\n", 5)
    with pytest.raises(Exception, match="nosuch"):
        cri.ExecSync(container_id=container, cmd=["nosuch"])
    with pytest.raises(Exception, match="timeout"):
        cri.ExecSync(container_id=container, cmd=["sleep", "1000"], timeout=1)


def test_the_end_of_a_container(cri: Cri, pod: Pod, place: Path) -> None:
    """Its exit code and its log; a stop sends SIGTERM, then SIGKILL."""
    ended = wait_for_state(cri, pod.start("short", "sh", "-c", "echo said; exit 7"), EXITED)
    assert ended.exit_code == 7
    assert "stdout F said" in (place / "logs/short.log").read_text()
    polite = pod.start("polite", "sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done")
    wait_for_text(place / "logs/polite.log", "ready")
    cri.StopContainer(container_id=polite, timeout=60)
    assert wait_for_state(cri, polite, EXITED).exit_code == 3
    stubborn = pod.start("stubborn", "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done")
    wait_for_text(place / "logs/stubborn.log", "ready")
    cri.StopContainer(container_id=stubborn, timeout=1)
    assert wait_for_state(cri, stubborn, EXITED).exit_code == 137


def test_a_program_that_is_not_there(cri: Cri, pod: Pod) -> None:
    """The runtime's words reach the kubelet."""
    with pytest.raises(Exception, match="nosuch"):
        pod.start("c", "nosuch")


def test_out_of_memory(cri: Cri, pod: Pod) -> None:
    """The kubelet reads why it ended: OOMKilled."""
    container = pod.start(
        "greedy",
        "dd",
        "if=/dev/zero",
        "of=/dev/null",
        "bs=64M",
        "count=1",
        linux={"resources": {"memory_limit_in_bytes": 16 << 20}},
    )
    ended = wait_for_state(cri, container, EXITED)
    assert (ended.exit_code, ended.reason) == (137, "OOMKilled")


def test_a_pod_on_the_hosts_network(cri: Cri, place: Path) -> None:
    pod = Pod(cri, place, "on-host", namespace_options={"network": NODE, "pid": NODE, "ipc": NODE})
    try:
        container = pod.start(
            "c",
            "sleep",
            "1000",
            linux={"security_context": {"namespace_options": {"network": NODE, "pid": NODE, "ipc": NODE}}},
        )
        inside = pod.shell(container, "for n in net pid ipc; do readlink /proc/self/ns/$n; done")
        assert inside.split() == [os.readlink(f"/proc/self/ns/{name}") for name in ("net", "pid", "ipc")]
    finally:
        pod.remove()


def test_ten_pods(cri: Cri, place: Path) -> None:
    pods = [Pod(cri, place, f"many-{number}") for number in range(10)]
    try:
        for pod in pods:
            assert pod.shell(pod.start("c", "sleep", "1000"), "echo up") == "up\n"
    finally:
        for pod in pods:
            pod.remove()
