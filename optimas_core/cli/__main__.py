"""`python -m optimas_core.cli` is the command `optimas`."""

from optimas_core.cli import main

main()
