"""`python -m meltemi.cli` is `meltemi`."""

from meltemi.cli.main import main

main()
