"""Run as a program: the operator without the packages that Kopf and structlog import only where they are installed.

The image does not have them. They take 12 MiB, and a quarter of a second at each start. To import this module keeps
them away too: the server that tests fork from does so before it imports the operator.
"""

import runpy
import sys
from typing import Any

# An import of a module that is None raises ImportError.
missing: Any = dict.fromkeys(("kubernetes", "rich"))
sys.modules.update(missing)

if __name__ == "__main__":
    runpy.run_module("awsbatch_operator", run_name="__main__", alter_sys=True)
