"""Command-line arguments that several commands share."""

import argparse


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add CONFIG and its overrides to `parser`."""
    parser.add_argument(
        "config",
        metavar="CONFIG",
        help="a config file (.py or .json) or the name of a recipe, optionally with :VARIANT",
    )
    parser.add_argument(
        "overrides", metavar="PATH=VALUE", nargs="*", help="settings to change, such as optimizer.momentum=0.95"
    )


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    """Add `--data-dir`, the directory of the data files, to `parser`."""
    parser.add_argument(
        "--data-dir", metavar="DIR", help="directory of the data files (default: data.directory, then $JAXTRAIN_DATA)"
    )


def add_process_options(parser: argparse.ArgumentParser) -> None:
    """Add the options by which the processes of a run find each other to `parser`."""
    group = parser.add_argument_group(
        "several processes",
        "detected automatically under SLURM, Open MPI, Kubernetes (jax[k8s]) and on TPU pods; elsewhere:",
    )
    group.add_argument(
        "--coordinator", metavar="HOST:PORT", help="address at which the other processes reach process 0"
    )
    group.add_argument("--processes", metavar="N", type=int, help="number of processes")
    group.add_argument("--process-id", metavar="I", type=int, help="index of this process, from 0")
