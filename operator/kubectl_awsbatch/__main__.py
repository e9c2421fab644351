"""`python -m kubectl_awsbatch`."""

import sys

from kubectl_awsbatch.cli import main

if __name__ == "__main__":
    sys.exit(main())
