"""The image commands as a user of Docker types them."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from fastdock.cli.group import cli
from fastdock.image import Images
from tests.system import make


@pytest.fixture
def root(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def images(root):
    return Images.at(root)


@pytest.fixture
def fastdock(root):
    """Runs a command: its result, with stdout and stderr apart."""

    def run(*arguments, status=0, **options):
        result = CliRunner().invoke(cli, ["--root", str(root), *arguments], **options)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == status, result.output
        return result

    return run


def lines(result):
    return result.stdout.splitlines()


def test_images(images, fastdock):
    """Docker's columns; the last tagged first."""
    made = make.image(images, "x:1")
    images.tag("x:1", "registry.example/y:2")
    heading, *rows = lines(fastdock("images"))
    assert heading.split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    assert [row.split()[:3] for row in rows] == [
        ["x", "1", made.short_id],
        ["registry.example/y", "2", made.short_id],
    ]
    assert lines(fastdock("images", "-q")) == [made.short_id]
    assert lines(fastdock("images", "-q", "--no-trunc", "x")) == [made.id]
    assert lines(fastdock("images", "nothing"))[1:] == []
    assert "DIGEST" in lines(fastdock("images", "--digests"))[0]


def test_images_formats(images, fastdock):
    """Templates and JSON."""
    make.image(images, "x:1")
    assert lines(fastdock("images", "--format", "{{.Repository}}:{{.Tag}}")) == ["x:1"]
    assert lines(fastdock("images", "--format", "table {{.Tag}}")) == ["TAG", "1"]
    (row,) = map(json.loads, lines(fastdock("images", "--format", "json")))
    assert row["Repository"] == "x"
    assert "Error" in fastdock("images", "--format", "{{.None}}", status=1).output


def test_images_filters(images, fastdock):
    """dangling, label, reference, before and since."""
    make.image(images, "old:1", {"a": b"1"}, changes=["LABEL a=b"])
    make.image(images, "new:1", {"a": b"2"})
    dangling = make.image(images, None, {"a": b"3"})

    def names(*arguments):
        return set(lines(fastdock("images", "--format", "{{.Repository}}", *arguments)))

    assert names() == {"old", "new", "<none>"}
    assert names("-f", "dangling=true") == {"<none>"}
    assert names("-f", "dangling=false") == {"old", "new"}
    assert names("-f", "label=a") == names("-f", "label=a=b") == {"old"}
    assert names("-f", "label=a=c") == set()
    assert names("-f", "reference=o*") == {"old"}
    assert names("-f", "before=new:1") == {"old"}
    assert names("-f", f"since={dangling.id}") == set()
    assert "invalid filter" in fastdock("images", "-f", "color=red", status=1).output


def test_tag_and_rmi(images, fastdock):
    """Names come and go; the last takes the image along."""
    made = make.image(images, "x:1")
    assert fastdock("tag", "x:1", "y").output == ""
    assert lines(fastdock("rmi", "y")) == ["Untagged: y:latest"]
    assert lines(fastdock("rmi", "x:1"))[:2] == ["Untagged: x:1", f"Deleted: {made.id}"]
    failed = fastdock("rmi", "x:1", "y", status=1)
    assert failed.stderr.count("no such image") == 2


def test_rmi_goes_on_after_an_error(images, fastdock):
    """One unknown name does not keep the others."""
    make.image(images, "x:1")
    fastdock("rmi", "unknown", "x:1", status=1)
    assert images.list() == []


def test_save_and_load(images, fastdock, tmp_path):
    """To a file and back."""
    made = make.image(images, "x:1")
    fastdock("save", "-o", str(tmp_path / "x.tar"), "x:1")
    images.remove("x:1")
    assert lines(fastdock("load", "-i", str(tmp_path / "x.tar")))[-1] == "Loaded image: x:1"
    assert images.get("x:1").id == made.id
    assert "cannot open" in fastdock("load", "-i", str(tmp_path / "none"), status=1).output


def test_import_and_history(fastdock, images, tmp_path):
    """From stdin and from a file, with changes."""
    data = make.tar({"a": b"1"})
    (image_id,) = lines(fastdock("import", "-c", "ENV A=b", "-m", "why", "-", "x:1", input=data))
    assert images.get("x:1").id == image_id
    assert images.get("x:1").config == {"Env": ["A=b"]}
    (tmp_path / "a.tar").write_bytes(data)
    fastdock("import", str(tmp_path / "a.tar"), "y:1")
    heading, row = lines(fastdock("history", "x:1"))
    assert heading.split() == ["IMAGE", "CREATED", "CREATED", "BY", "SIZE", "COMMENT"]
    assert row.split()[0] == image_id[7:19]
    assert row.endswith("why")
    assert lines(fastdock("history", "--format", "{{.Comment}}", "x:1")) == ["why"]
    assert "cannot open" in fastdock("import", "/none.tar", status=1).output


def test_inspect(images, fastdock):
    """JSON, or a template; unknown ones are told and the rest shown."""
    made = make.image(images, "x:1", changes=['CMD ["sh"]'])
    (document,) = json.loads(fastdock("image", "inspect", "x:1").stdout)
    assert document["Id"] == made.id
    assert document["Config"]["Cmd"] == ["sh"]
    assert document["RootFS"]["Layers"] == made.record.diff_ids
    assert lines(fastdock("image", "inspect", "-f", "{{.Id}} {{json .Config.Cmd}}", "x:1")) == [
        f'{made.id} ["sh"]'
    ]
    both = fastdock("image", "inspect", "x:1", "none", status=1)
    assert len(json.loads(both.stdout)) == 1
    assert "no such image: none" in both.stderr


def test_prune(images, fastdock):
    """Nameless ones; with --all those that no container uses; asks unless forced."""
    make.image(images, "x:1", {"a": b"1"})
    dangling = make.image(images, None, {"a": b"2"})
    assert fastdock("image", "prune", input="n\n", status=1).stdout.startswith("WARNING!")
    for before in ("2001-01-02T03:04:05", "2001-01-02", "2001-01-02T03:04:05Z", "1000000000"):
        assert lines(fastdock("image", "prune", "-f", "--filter", f"until={before}"))[0].startswith("Total")
    assert f"deleted: {dangling.id}" in lines(fastdock("image", "prune", "-f"))
    assert len(images.list()) == 1
    assert lines(fastdock("image", "prune", "-af"))[-1].startswith("Total reclaimed space: ")
    assert images.list() == []


def test_system_df(images, fastdock):
    """What takes space."""
    make.image(images, "x:1")
    heading, *rows = lines(fastdock("system", "df"))
    assert heading.split() == ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]
    assert rows[0].split()[:2] == ["Images", "1"]
    assert [row.split("  ")[0] for row in rows] == ["Images", "Containers", "Local Volumes", "Blobs"]
    assert "UNIQUE SIZE" in fastdock("system", "df", "-v").stdout
    images.store.hold("container:1", images.get("x:1").id)
    assert lines(fastdock("system", "df", "--format", "{{.Active}}"))[0] == "1"


def test_system_check(images, fastdock):
    """Exit status 1 where something is wrong, 0 once it is repaired."""
    import os

    made = make.image(images, "x:1")
    assert lines(fastdock("system", "check", "-q")) == ["All is well."]
    os.unlink(os.path.join(made.record.layer_paths[0], "etc/name"))
    assert "etc/name: missing (found)" in fastdock("system", "check", "-q", status=1).stdout
    assert "(repaired)" in fastdock("system", "check", "-q", "--repair").stdout
    fastdock("system", "check", "-q")


@pytest.mark.parametrize(
    "arguments", [["pull", "localhost:1/x"], ["push", "localhost:1/none"], ["pull", "NO NAME"]]
)
def test_errors_are_one_line(fastdock, arguments):
    """No traceback, exit status 1."""
    output = fastdock(*arguments, status=1).stderr
    assert output.startswith("Error: ")
    assert "Traceback" not in output


def test_login_needs_a_user_for_stdin(fastdock):
    """As Docker."""
    assert "--username" in fastdock("login", "--password-stdin", "localhost:1", input="x", status=1).stderr


@pytest.mark.parametrize(
    "arguments", [["--help"], ["pull", "--help"], ["images", "--help"], ["image", "--help"]]
)
def test_help_imports_little(arguments):
    """No HTTP client, no rich: help is there at once."""
    code = "import sys; from fastdock.cli.group import cli\ntry: cli(sys.argv[1:])\nexcept SystemExit: pass\n"
    code += "print(sorted({'aiohttp', 'rich', 'msgspec', 'asyncio'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("[]\n")
