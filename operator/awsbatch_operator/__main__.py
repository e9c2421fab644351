"""`python -m awsbatch_operator` is `awsbatch-operator`."""

from awsbatch_operator.cli import main

main()
