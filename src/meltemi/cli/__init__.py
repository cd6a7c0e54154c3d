"""The command line: one module per verb under `verbs`, joined by the list in `commands`.

A verb imports what it needs when it runs and not before, so that `meltemi --help` and completion are instant.
Whatever turns JSON into rows and texts is a plain function; only the bodies of commands wait for the network.

Exit status, of every command: 0 all is well, 1 a problem was found or something is not live, 2 the command was not
understood. `exec` ends with the status of the command that it ran.
"""
