"""`python -m noisefloor.cli`: the command line without its script."""

from noisefloor.cli.main import run

if __name__ == "__main__":
    run()
