"""Commands about the images that are here: images, tag, rmi, history, and the group ``image``."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from fastdock._errors import FastdockError, SpecError
from fastdock.cli import archives, registry
from fastdock.cli.common import Command, Group, each, get_images
from fastdock.cli.errors import describe
from fastdock.cli.output import format_rows, human_age, human_size, parse_time
from fastdock.image import familiar

if TYPE_CHECKING:
    from fastdock.image import Image, Images

NONE = "<none>"
HEADINGS = {
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "ID": "IMAGE ID",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "Containers": "CONTAINERS",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
    "VirtualSize": "SIZE",
}
TABLE = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
DIGEST_TABLE = "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"


@click.command("images", cls=Command)
@click.argument("repository", required=False, metavar="[REPOSITORY[:TAG]]")
@click.option("-a", "--all", "show_all", is_flag=True, help="Show all images.")
@click.option("--digests", is_flag=True, help="Show digests.")
@click.option(
    "-f", "--filter", "filters", multiple=True, help="dangling=, label=, before=, since=, reference=."
)
@click.option("--format", "format_", help="table [TEMPLATE], json, or a Go template.")
@click.option("--no-trunc", is_flag=True, help="Don't shorten IDs.")
@click.option("-q", "--quiet", is_flag=True, help="Only IDs.")
@click.pass_context
def images_command(
    context: click.Context,
    repository: str | None,
    show_all: bool,
    digests: bool,
    filters: tuple[str, ...],
    format_: str | None,
    no_trunc: bool,
    quiet: bool,
) -> None:
    """List images."""
    images = get_images(context)
    chosen = Filter(images, filters, repository)
    rows = [row for image in images.list() for row in _rows(image, chosen, digests, no_trunc)]
    if quiet:
        for image_id in dict.fromkeys(row["ID"] for row in rows):
            click.echo(image_id)
        return
    table = DIGEST_TABLE if digests else TABLE
    click.echo(format_rows(rows, format_, table, HEADINGS), nl=False)


def _rows(image: Image, chosen: Filter, digests: bool, no_trunc: bool) -> Iterator[dict[str, Any]]:
    """A row for each name; for each name by digest where there is no other."""
    if not chosen.takes(image):
        return
    record = image.record
    by_repository: dict[str, str] = {}
    for name in record.digests:
        repository, _, digest = name.partition("@")
        by_repository.setdefault(familiar(repository), digest)
    places = [tuple(tag.rpartition(":")[::2]) for tag in image.tags if chosen.takes_name(tag)]
    if not record.names:
        places = [(repository, NONE) for repository in by_repository if chosen.takes_name(repository)]
        if not places and not chosen.names_only:
            places = [(NONE, NONE)]
    for repository, tag in places:
        yield {
            "Repository": repository,
            "Tag": tag,
            "Digest": by_repository.get(repository, NONE),
            "ID": image.id if no_trunc else image.short_id,
            "CreatedSince": human_age(record.created, time.time()),
            "CreatedAt": created_at(record.created),
            "Size": human_size(record.size),
            "VirtualSize": human_size(record.size),
            "Containers": "N/A",
            "SharedSize": "N/A",
            "UniqueSize": "N/A",
        }


def created_at(text: str) -> str:
    seconds = parse_time(text)
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(seconds)) if seconds > 0 else "N/A"


class Filter:
    """``--filter`` of images, and the repository that was asked for."""

    def __init__(self, images: Images, filters: tuple[str, ...], repository: str | None = None) -> None:
        self.dangling: bool | None = None
        self._labels: list[tuple[str, str | None]] = []
        self._without: list[tuple[str, str | None]] = []
        self._patterns = [repository] if repository else []
        self._before = self._since = None
        for text in filters:
            name, equals, value = text.partition("=")
            if not equals:
                raise SpecError(f"invalid filter {text!r}", hint="NAME=VALUE")
            if name == "dangling":
                self.dangling = _truth(value)
            elif name in ("label", "label!"):
                key, has_value, wanted = value.partition("=")
                wanted_list = self._without if name == "label!" else self._labels
                wanted_list.append((key, wanted if has_value else None))
            elif name == "reference":
                self._patterns.append(value)
            elif name == "before":
                self._before = parse_time(images.get(value).record.created)
            elif name == "since":
                self._since = parse_time(images.get(value).record.created)
            elif name == "until":
                from fastdock.cli.listing import until

                self._before = until(value)
            else:
                raise SpecError(
                    f"invalid filter '{name}'", hint="dangling, label, reference, before, since, until"
                )

    @property
    def names_only(self) -> bool:
        return bool(self._patterns)

    def takes(self, image: Image) -> bool:
        created = parse_time(image.record.created)
        labels = image.labels
        return (
            (self.dangling is None or self.dangling != bool(image.record.names or image.record.digests))
            and all(_has(labels, *wanted) for wanted in self._labels)
            and not any(_has(labels, *wanted) for wanted in self._without)
            and (self._before is None or created < self._before)
            and (self._since is None or created > self._since)
        )

    def takes_name(self, name: str) -> bool:
        from fnmatch import fnmatchcase

        repository = name.rpartition(":")[0] if ":" in name.rpartition("/")[2] else name
        names = {name, repository}
        wanted = {familiar(pattern) for pattern in self._patterns}
        return not wanted or any(fnmatchcase(one, pattern) for one in names for pattern in wanted)


def _has(labels: dict[str, str], key: str, value: str | None) -> bool:
    return key in labels and (value is None or labels[key] == value)


def _truth(value: str) -> bool:
    if value.lower() in ("1", "t", "true"):
        return True
    if value.lower() in ("0", "f", "false"):
        return False
    raise SpecError(f"invalid filter 'dangling={value}'", hint="true or false")


@click.command(cls=Command)
@click.argument("source", metavar="SOURCE_IMAGE[:TAG]")
@click.argument("target", metavar="TARGET_IMAGE[:TAG]")
@click.pass_context
def tag(context: click.Context, source: str, target: str) -> None:
    """Give an image another name."""
    get_images(context).tag(source, target)


@click.command(cls=Command)
@click.argument("references", nargs=-1, required=True, metavar="IMAGE...")
@click.option(
    "-f", "--force", is_flag=True, help="Remove it even if it has several names or a container uses it."
)
@click.option("--no-prune", is_flag=True, hidden=True)
@click.pass_context
def rmi(context: click.Context, references: tuple[str, ...], force: bool, no_prune: bool) -> None:
    """Remove images."""
    images = get_images(context)

    def remove(reference: str) -> None:
        for what, name in images.remove(reference, force=force):
            click.echo(f"{what}: {name}")

    each(references, remove)


@click.command(cls=Command)
@click.argument("reference", metavar="IMAGE")
@click.option("--format", "format_", help="table [TEMPLATE], json, or a Go template.")
@click.option("-H", "--human/--no-human", default=True, help="Sizes and dates for people (the default).")
@click.option("--no-trunc", is_flag=True, help="Don't shorten.")
@click.option("-q", "--quiet", is_flag=True, help="Only IDs.")
@click.pass_context
def history(
    context: click.Context, reference: str, format_: str | None, human: bool, no_trunc: bool, quiet: bool
) -> None:
    """Show how an image came about."""
    rows = []
    for entry in get_images(context).history(reference):
        image_id = entry.id if no_trunc else entry.id.removeprefix("sha256:")[:12]
        command = entry.created_by if no_trunc or len(entry.created_by) <= 45 else entry.created_by[:44] + "…"
        age = human_age(entry.created, time.time()) if human else entry.created
        rows.append(
            {
                "ID": image_id if entry.id != "<missing>" else "<missing>",
                "CreatedSince": age,
                "CreatedAt": entry.created,
                "CreatedBy": command.replace("\t", " "),
                "Size": human_size(entry.size) if human else str(entry.size),
                "Comment": entry.comment,
                "Tags": ", ".join(entry.tags),
            }
        )
    if quiet:
        for row in rows:
            click.echo(row["ID"])
        return
    headings = {
        "ID": "IMAGE",
        "CreatedSince": "CREATED",
        "CreatedAt": "CREATED AT",
        "CreatedBy": "CREATED BY",
    }
    headings |= {"Size": "SIZE", "Comment": "COMMENT", "Tags": "TAGS"}
    table = "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
    click.echo(format_rows(rows, format_, table, headings), nl=False)


@click.group(cls=Group)
def image() -> None:
    """Manage images."""


@image.command("inspect")
@click.argument("references", nargs=-1, required=True, metavar="IMAGE...")
@click.option("-f", "--format", "format_", help="json, or a Go template.")
@click.pass_context
def image_inspect(context: click.Context, references: tuple[str, ...], format_: str | None) -> None:
    """Show all about images."""
    images = get_images(context)
    found: list[dict[str, Any]] = []
    each_error: FastdockError | None = None
    for reference in references:
        try:
            found.append(images.get(reference).inspect())
        except FastdockError as error:
            each_error = error
            click.echo(f"Error: {describe(error)}", err=True)
    print_inspected(found, format_)
    if each_error:
        context.exit(1)


def print_inspected(found: list[dict[str, Any]], format_: str | None) -> None:
    """What ``inspect`` prints: a JSON list, or a line for each by a template."""
    from fastdock.cli.template import Template

    if format_ in (None, ""):
        click.echo(json.dumps(found, indent=4, ensure_ascii=False))
    elif format_ == "json":
        click.echo(json.dumps(found, separators=(",", ":"), ensure_ascii=False))
    else:
        template = Template(str(format_))
        for one in found:
            click.echo(template.render(one))


@image.command("prune")
@click.option(
    "-a", "--all", "all_", is_flag=True, help="All images that no container uses, not only nameless ones."
)
@click.option("-f", "--force", is_flag=True, help="Don't ask.")
@click.option("--filter", "filters", multiple=True, help="label=, label!=, until=.")
@click.pass_context
def image_prune(context: click.Context, all_: bool, force: bool, filters: tuple[str, ...]) -> None:
    """Remove images that nothing uses."""
    what = "all images without at least one container associated to them" if all_ else "all dangling images"
    if not force:
        click.echo(f"WARNING! This will remove {what}.")
        click.confirm("Are you sure you want to continue?", abort=True)
    images = get_images(context)
    chosen = Filter(images, filters)
    if chosen.dangling is not None:
        all_ = not chosen.dangling
        chosen.dangling = None
    pruned = images.prune(all=all_, keep=lambda one: not chosen.takes(one))
    if pruned.removed:
        click.echo("Deleted Images:")
        for verb, name in pruned.removed:
            click.echo(f"{verb.lower()}: {name}")
        click.echo()
    click.echo(f"Total reclaimed space: {human_size(pruned.space)}")


@image.command("bootstrap")
@click.argument("what", metavar="busybox|debian[:SUITE]")
@click.argument("reference", required=False, metavar="[NAME[:TAG]]")
@click.option("-q", "--quiet", is_flag=True, help="Print the ID only.")
@click.pass_context
def image_bootstrap(context: click.Context, what: str, reference: str | None, quiet: bool) -> None:
    """Make a base image of what this machine has: its busybox, or its package mirror's Debian."""
    show = None if quiet else (lambda line: click.echo(line, err=True))
    made = get_images(context).bootstrap(what, reference, progress=show)
    click.echo(made.id)


for _name, _command in {
    "ls": images_command,
    "list": images_command,
    "rm": rmi,
    "remove": rmi,
    "tag": tag,
    "history": history,
    "pull": registry.pull,
    "push": registry.push,
    "save": archives.save,
    "load": archives.load,
    "import": archives.import_command,
}.items():
    image.add_command(_command, _name)
