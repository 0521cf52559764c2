"""Docker's own engine takes what we give, and gives what we take."""

import io
import json
import os
import subprocess
import tarfile
import tempfile

import pytest

from tests.system import make

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def docker(tmp_path_factory):
    """A dockerd of our own, without networks, on its own socket: runs docker commands."""
    base = tmp_path_factory.mktemp("docker")
    sockets = tempfile.mkdtemp(prefix="dkr")  # unix(7): 108 bytes
    environment = {
        **os.environ,
        "DOCKER_HOST": f"unix://{sockets}/docker.sock",
        "DOCKER_CONFIG": str(base / "config"),
    }
    command = ["dockerd", "--data-root", str(base / "data"), "--exec-root", f"{sockets}/exec",
               "--pidfile", f"{sockets}/pid",
               "--host", environment["DOCKER_HOST"], "--bridge=none",
               "--iptables=false", "--storage-driver=vfs"]  # fmt: skip
    log = (base / "log").open("w")
    daemon = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

    def run(*arguments):
        done = subprocess.run(["docker", *arguments], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    while not os.path.exists(f"{sockets}/docker.sock"):
        assert daemon.poll() is None, (base / "log").read_text()
        try:
            daemon.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
    yield run
    daemon.terminate()
    daemon.wait()
    log.close()
    subprocess.run(["rm", "-rf", sockets], check=True)


def test_docker_loads_what_we_save(docker, images, tmp_path):
    """docker load of our archive: the same ID."""
    made = make.layered(images, "fd/app:1", [3000, 4000])
    for compression in (None, "gzip"):
        images.save(["fd/app:1"], tmp_path / "x.tar", compression=compression)
        assert "fd/app:1" in docker("load", "-i", str(tmp_path / "x.tar"))
        assert docker("image", "inspect", "-f", "{{.Id}}", "fd/app:1") == made.id
        docker("rmi", "fd/app:1")


def test_we_load_what_docker_saves(docker, images, other, tmp_path):
    """And the other way round."""
    made = make.image(images, "fd/back:1", changes=['CMD ["x"]', "ENV A=b"])
    images.save(["fd/back:1"], tmp_path / "x.tar")
    docker("load", "-i", str(tmp_path / "x.tar"))
    docker("save", "-o", str(tmp_path / "y.tar"), "fd/back:1")
    ((image, names),) = other.load(tmp_path / "y.tar")
    assert (image.id, list(names)) == (made.id, ["fd/back:1"])
    assert make.tree(image) == make.tree(made)


def test_push_and_pull_between_us(docker, registry, images, other, transfer, tmp_path):
    """An image that docker imports and pushes, pulled by us and pushed back, keeps its digest."""
    (tmp_path / "x.tar").write_bytes(make.tar({"etc/": b"", "etc/hello": b"world"}))
    name = f"{registry.host}/docker/x:1"
    docker("import", "-c", 'CMD ["/bin/hello"]', str(tmp_path / "x.tar"), name)
    docker("push", "-q", name)
    digest = docker("image", "inspect", "-f", "{{index .RepoDigests 0}}", name).partition("@")[2]
    pulled = images.pull(name, transfer=transfer())
    assert pulled.digest == digest
    assert pulled.image.id == docker("image", "inspect", "-f", "{{.Id}}", name)
    assert make.tree(images.get(name))["etc/hello"] == b"world"
    back = f"{registry.host}/docker/back:1"
    images.tag(name, back)
    assert images.push(back, transfer=transfer()).digest == digest


def test_docker_pulls_what_we_push(docker, registry, images, transfer):
    """Our OCI manifest, docker's digest."""
    name = f"{registry.host}/ours/x:1"
    made = make.layered(images, name, [2000, 3000])
    pushed = images.push(name, transfer=transfer())
    docker("pull", "-q", name)
    assert docker("image", "inspect", "-f", "{{.Id}}", name) == made.id
    assert json.loads(docker("image", "inspect", name))[0]["RepoDigests"] == [
        f"{registry.host}/ours/x@{pushed.digest}"
    ]


def test_entries_below_links_land_where_docker_puts_them(docker, images, tmp_path):
    """Links of a layer, absolute, relative and out of the root, with entries below them."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, kind, value in [
            ("run", tarfile.DIRTYPE, ""),
            ("srv", tarfile.DIRTYPE, ""),
            ("var", tarfile.DIRTYPE, ""),
            ("var/run", tarfile.SYMTYPE, "/run"),
            ("var/run/lock/pid", tarfile.REGTYPE, "1"),
            ("var/up", tarfile.SYMTYPE, "../../../srv"),
            ("var/up/file", tarfile.REGTYPE, "2"),
            ("var/twice", tarfile.SYMTYPE, "up/../run"),
            ("var/twice/third", tarfile.REGTYPE, "3"),
            ("var/hard", tarfile.LNKTYPE, "var/up/file"),
            ("var/absolute", tarfile.SYMTYPE, "/var/up"),
            ("var/absolute/fourth", tarfile.REGTYPE, "4"),
        ]:
            info = tarfile.TarInfo(name)
            info.type, info.mode = kind, 0o755
            if kind == tarfile.REGTYPE:
                info.size = 1
            else:
                info.linkname = value
            tar.addfile(info, io.BytesIO(value.encode()))
    buffer.seek(0)
    ours = make.tree(images.import_tar(buffer, "fd/links:1"))
    images.save(["fd/links:1"], tmp_path / "x.tar")
    docker("load", "-i", str(tmp_path / "x.tar"))
    container = docker("create", "--network=none", "fd/links:1", "/x")
    docker("export", "-o", str(tmp_path / "rootfs.tar"), container)
    docker("rm", container)
    with tarfile.open(tmp_path / "rootfs.tar") as tar:
        theirs = {
            member.name: tar.extractfile(member).read()
            for member in tar
            if (member.isfile() or member.islnk()) and member.name.startswith(("run/", "srv/", "var/"))
        }
    assert ours == theirs
    assert set(ours) == {"run/lock/pid", "run/third", "srv/file", "srv/fourth", "var/hard"}
