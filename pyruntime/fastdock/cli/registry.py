"""Commands that speak to registries: pull, push, login, logout, manifest."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from fastdock._errors import SpecError
from fastdock.cli.common import Command, Group, get_images
from fastdock.cli.progress import transfer_progress

HUB = "docker.io"


@click.command(cls=Command)
@click.argument("reference", metavar="NAME[:TAG|@DIGEST]")
@click.option("-a", "--all-tags", is_flag=True, help="Pull all tags of the repository.")
@click.option("--platform", help="Platform to pull: os/architecture[/variant].")
@click.option("-q", "--quiet", is_flag=True, help="Print the name only.")
@click.option("--disable-content-trust", is_flag=True, hidden=True, default=True)
@click.pass_context
def pull(
    context: click.Context,
    reference: str,
    all_tags: bool,
    platform: str | None,
    quiet: bool,
    disable_content_trust: bool,
) -> None:
    """Download an image from a registry."""
    from fastdock.image import parse

    images = get_images(context)
    name = parse(reference)
    names = [str(name)]
    if all_tags:
        if name.digest or reference.endswith(f":{name.tag}"):
            raise SpecError("tag can't be used with --all-tags/-a")
        names = [f"{name.repository}:{tag}" for tag in images.remote_tags(name.repository)]
    elif not quiet and not name.digest and not reference.endswith(f":{name.tag}"):
        click.echo("Using default tag: latest")
    for one in names:
        with transfer_progress(quiet) as show:
            result = images.pull(one, platform=platform, progress=show)
        if not quiet:
            shown = parse(one).familiar
            click.echo(f"Digest: {result.digest}")
            state = "Downloaded newer image for" if result.changed else "Image is up to date for"
            click.echo(f"Status: {state} {shown}")
        click.echo(one)


@click.command(cls=Command)
@click.argument("reference", metavar="NAME[:TAG]")
@click.option("-a", "--all-tags", is_flag=True, help="Push all tags of the repository.")
@click.option("-q", "--quiet", is_flag=True, help="Print the name only.")
@click.option(
    "--compression",
    type=click.Choice(["gzip", "zstd", "none"]),
    help="Compress the layers so; else as they came.",
)
@click.option("--disable-content-trust", is_flag=True, hidden=True, default=True)
@click.pass_context
def push(
    context: click.Context,
    reference: str,
    all_tags: bool,
    quiet: bool,
    compression: str | None,
    disable_content_trust: bool,
) -> None:
    """Upload an image to a registry."""
    from fastdock.image import parse

    images = get_images(context)
    name = parse(reference)
    names: Sequence[str] = [str(name)]
    if all_tags:
        names = images.tags_of(reference)
        if not names:
            raise SpecError(f"there is no tag of {reference} to push", hint="with --all-tags, give no tag")
    for one in names:
        with transfer_progress(quiet) as show:
            result = images.push(one, compression=compression, progress=show)
        if quiet:
            click.echo(one)
        else:
            click.echo(f"{parse(one).selector}: digest: {result.digest} size: {result.size}")


@click.command(cls=Command)
@click.argument("server", required=False, default=HUB)
@click.option("-u", "--username", help="User name.")
@click.option("-p", "--password", help="Password (others can see it in the list of processes).")
@click.option("--password-stdin", is_flag=True, help="Take the password from stdin.")
@click.pass_context
def login(
    context: click.Context, server: str, username: str | None, password: str | None, password_stdin: bool
) -> None:
    """Log in to a registry (Docker Hub by default)."""
    if password_stdin:
        if password:
            raise click.UsageError("--password and --password-stdin are mutually exclusive")
        if not username:
            raise click.UsageError("Must provide --username with --password-stdin")
        password = sys.stdin.read().rstrip("\r\n")
    elif password:
        click.echo("WARNING! Using --password via the CLI is insecure. Use --password-stdin.", err=True)
    username = username or click.prompt("Username")
    password = password or click.prompt("Password", hide_input=True)
    where = get_images(context).login(str(username), str(password), _server(server))
    if not where.startswith("docker-credential-"):
        click.echo(f"WARNING! Your credentials are stored unencrypted in {where}.", err=True)
    click.echo("Login Succeeded")


@click.command(cls=Command)
@click.argument("server", required=False, default=HUB)
@click.pass_context
def logout(context: click.Context, server: str) -> None:
    """Log out from a registry (Docker Hub by default)."""
    server = _server(server)
    if get_images(context).logout(server):
        click.echo(f"Removing login credentials for {server}")
    else:
        click.echo(f"Not logged in to {server}")


def _server(server: str) -> str:
    """A registry's name from what people give login, which may be a URL."""
    name = server.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return HUB if name in ("index.docker.io", "registry-1.docker.io", "") else name


@click.group(cls=Group)
def manifest() -> None:
    """Look at manifests in registries."""


@manifest.command("inspect")
@click.argument("reference", metavar="NAME[:TAG|@DIGEST]")
@click.option("-v", "--verbose", is_flag=True, help="Add the descriptor.")
@click.option("--insecure", is_flag=True, hidden=True)
@click.pass_context
def manifest_inspect(context: click.Context, reference: str, verbose: bool, insecure: bool) -> None:
    """Show a manifest or index as the registry has it."""
    import json

    data, media_type, digest = get_images(context).remote_manifest(reference)
    document = json.loads(data)
    if verbose:
        descriptor = {"mediaType": media_type, "digest": digest, "size": len(data)}
        document = {"Ref": reference, "Descriptor": descriptor, "Manifest": document}
    click.echo(json.dumps(document, indent=3 if not verbose else "\t", ensure_ascii=False))


@manifest.command("referrers")
@click.argument("reference", metavar="NAME[:TAG|@DIGEST]")
@click.pass_context
def manifest_referrers(context: click.Context, reference: str) -> None:
    """List what refers to a manifest: signatures, attestations, software bills."""
    import json

    click.echo(json.dumps(get_images(context).referrers(reference), indent=3))
