"""`python tools/install.py .venv/bin/python ARGUMENTS`: `pip install ARGUMENTS` into the environment of that Python.

uv does it where it can, since it takes a tenth of pip's time; the arguments have the same meaning for both programs. uv
reads no settings of pip: it gets those that say where packages come from. If uv fails or is missing, pip installs.
Needs only a Python.
"""

import ast
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

# UV_INDEX_URL is the older name, so that a UV_DEFAULT_INDEX of the user comes first.
_VARIABLES: Final = {
    "index-url": ("UV_INDEX_URL", " "),
    "extra-index-url": ("UV_EXTRA_INDEX_URL", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "cert": ("SSL_CERT_FILE", " "),
    "proxy": ("ALL_PROXY", " "),
}
"""The variable of uv and the separator of its values, for each setting of pip."""


def pip_for(python: Path) -> list[str | Path]:
    """The pip of this Python, which can install into another environment; if it has none, that of the environment."""
    own = importlib.util.find_spec("pip") is not None
    chosen: list[str | Path] = [sys.executable, "-m", "pip", "--python", python] if own else [python, "-m", "pip"]
    return [*chosen, "--disable-pip-version-check"]


def pip_settings(python: Path) -> dict[str, str]:
    """Return the settings of pip's files and variables for `pip install`, by name."""
    shown = subprocess.run([*pip_for(python), "config", "list"], capture_output=True, text=True, check=False).stdout
    found = re.findall(r"^(global|install|:env:)\.(\S+?)=(.+)$", shown, re.MULTILINE)
    lines = sorted(found, key=lambda line: ("global", "install", ":env:").index(line[0]))  # the last one counts
    return {name: str(ast.literal_eval(value)) for _, name, value in lines}


def uv_environment(settings: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """The environment in which uv gets packages from where pip does. What the user set for uv itself stays."""
    translated = {
        variable: separator.join(settings[name].split())
        for name, (variable, separator) in _VARIABLES.items()
        if name in settings
    }
    # As pip: the best match from any index (the locks have hashes), and the certificates of the system.
    return {"UV_INDEX_STRATEGY": "unsafe-best-match", "UV_SYSTEM_CERTS": "1", **translated, **environment}


def uv_installs(uv: Path, python: Path, arguments: list[str]) -> bool:
    """Run `uv pip install` and show its progress, without the line for each package that it has installed."""
    settings = pip_settings(python)
    if "no-index" in settings:  # uv has no variable for it
        return False
    command: list[str | Path] = [uv, "pip", "install", f"--python={python}", *arguments]
    environment = uv_environment(settings, os.environ)
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as running:
        for line in running.stderr or ():
            if not line.startswith((" + ", " - ", " ~ ")):
                print(f"  {line.strip()}", flush=True)
    return running.returncode == 0


def main(python: Path, arguments: list[str]) -> int:
    uv = python.with_name("uv")
    if uv.exists():
        if uv_installs(uv, python, arguments):
            return 0
        print("  uv cannot install this: pip does, which takes some minutes", flush=True)
    return subprocess.run([*pip_for(python), "install", "--progress-bar=off", *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
