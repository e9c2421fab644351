"""Run as a program: the operator without the packages that Kopf and structlog import only where they are installed.

The image does not have them. They take 12 MiB, and a quarter of a second at each start.
"""

import runpy
import sys

if __name__ == "__main__":
    for name in ("kubernetes", "rich"):
        sys.modules[name] = None  # type: ignore[assignment]  - an import of it raises ImportError
    runpy.run_module("awsbatch_operator", run_name="__main__", alter_sys=True)
