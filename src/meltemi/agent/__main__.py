"""`python -m meltemi.agent`."""

from meltemi.agent.server import main

if __name__ == "__main__":
    main()
