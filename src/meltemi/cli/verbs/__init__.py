"""One module per verb; `meltemi.cli.commands` lists them."""
