"""`python -m awsbatch_sandbox.apiserver`: serve until SIGTERM or SIGINT."""

import asyncio
import signal
from pathlib import Path

import click
import yaml

from awsbatch_sandbox.apiserver.errors import ApiError
from awsbatch_sandbox.apiserver.server import ApiServer, kubeconfig, load_definitions, serve


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
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
    *, host: str, port: int, crds: tuple[Path, ...], kubeconfig_file: Path | None, history: int, bookmark_every: float
) -> None:
    """A small Kubernetes API server on loopback. It is not Kubernetes."""
    definitions = load_definitions(crds)

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        server = ApiServer(definitions, history=history, bookmark_every=bookmark_every)
        async with serve(server, host, port) as url:
            if kubeconfig_file is not None:
                _write_kubeconfig(kubeconfig_file, url)
            click.echo(url)
            await stop.wait()

    try:
        asyncio.run(run())
    except ApiError as error:
        raise click.ClickException(f"--crd: {error.message}") from error
    except OSError as error:
        raise click.ClickException(f"--host {host} --port {port} --kubeconfig {kubeconfig_file}: {error}") from error


def _write_kubeconfig(file: Path, url: str) -> None:
    file.write_text(yaml.safe_dump(kubeconfig(url), sort_keys=False), "utf-8")


if __name__ == "__main__":
    main()
