"""`python -m awsbatch_sandbox.apiserver`: serve until SIGTERM or SIGINT."""

import asyncio
import signal
import ssl
import tempfile
from pathlib import Path

import click
import yaml

from awsbatch_sandbox.apiserver.errors import ApiError
from awsbatch_sandbox.apiserver.server import ApiServer, load_definitions, serve
from awsbatch_sandbox.certificates import Authority
from awsbatch_sandbox.kubeconfig import kubeconfig, write_private


@click.command()
@click.option("--port", default=0, show_default=True, help="0 takes any free port.")
@click.option(
    "--crd",
    "crds",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="A YAML file with CustomResourceDefinitions, or a directory of them.",
)
@click.option(
    "--kubeconfig", "kubeconfig_file", type=click.Path(path_type=Path), help="Write a kubeconfig to this file."
)
@click.option("--history", default=20_000, show_default=True, help="Changes that a collection keeps for watches.")
@click.option("--bookmark-every", default=60.0, show_default=True, help="Seconds between watch bookmarks.")
def main(
    *, port: int, crds: tuple[Path, ...], kubeconfig_file: Path | None, history: int, bookmark_every: float
) -> None:
    """A small Kubernetes API server on loopback, over TLS. It is not Kubernetes."""
    definitions = load_definitions(crds)

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        server = ApiServer(definitions, history=history, bookmark_every=bookmark_every)
        authority = Authority("awsbatch-sandbox")
        async with serve(server, port=port, tls=_tls(authority)) as url:
            if kubeconfig_file is not None:
                settings = kubeconfig(url, authority.certificate, {"token": "sandbox"})
                write_private(kubeconfig_file, yaml.safe_dump(settings, sort_keys=False).encode())
            click.echo(url)
            await stop.wait()

    try:
        asyncio.run(run())
    except ApiError as error:
        raise click.ClickException(f"--crd: {error.message}") from error
    except OSError as error:
        raise click.ClickException(f"--port {port} --kubeconfig {kubeconfig_file}: {error}") from error


def _tls(authority: Authority) -> ssl.SSLContext:
    """A context with a certificate for loopback; ssl loads it from a file only."""
    pair = authority.server()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        file.write(pair.certificate + pair.key)
        file.flush()
        context.load_cert_chain(file.name)
    return context


if __name__ == "__main__":
    main()
