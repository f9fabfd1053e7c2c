"""Arguments that several commands share."""

import argparse


def add_config(parser: argparse.ArgumentParser) -> None:
    """CONFIG and its overrides."""
    parser.add_argument("config", metavar="CONFIG", help="a config file (.py or .json), or a recipe's name")
    parser.add_argument(
        "overrides", metavar="PATH=VALUE", nargs="*", help="settings to change, such as optimizer.momentum=0.95"
    )


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    """Where data files are."""
    parser.add_argument(
        "--data-dir", metavar="DIR", help="where data files are (default: data.directory, then $JAXTRAIN_DATA)"
    )
