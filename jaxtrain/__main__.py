"""The entry point of `python -m jaxtrain`."""

from jaxtrain.cli.main import run

if __name__ == "__main__":
    run()
