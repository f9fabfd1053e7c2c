"""Arguments that several commands share."""

import argparse


def add_config(parser: argparse.ArgumentParser) -> None:
    """CONFIG and its overrides."""
    parser.add_argument(
        "config", metavar="CONFIG", help="a config file (.py or .json), or a recipe's name; :VARIANT may follow"
    )
    parser.add_argument(
        "overrides", metavar="PATH=VALUE", nargs="*", help="settings to change, such as optimizer.momentum=0.95"
    )


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    """Where data files are."""
    parser.add_argument(
        "--data-dir", metavar="DIR", help="where data files are (default: data.directory, then $JAXTRAIN_DATA)"
    )


def add_hosts(parser: argparse.ArgumentParser) -> None:
    """How the processes of a run find each other."""
    hosts = parser.add_argument_group(
        "several processes", "found by themselves under SLURM, Open MPI, Kubernetes (jax[k8s]) and on TPU pods; else:"
    )
    hosts.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 is reached by the others")
    hosts.add_argument("--processes", metavar="N", type=int, help="how many processes there are")
    hosts.add_argument("--process-id", metavar="I", type=int, help="which this is, from 0")
