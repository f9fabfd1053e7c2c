"""Rows: nets that are made to be trained fast."""

from jaxtrain.models.catalog.rows import cifar, row

SPEEDRUN = {
    "airbench94": row(
        "airbench:airbench",
        "CIFAR-10 speedruns: a whitening layer, three groups of two convolutions, a scaled head",
        "Jordan 2024, 94% on CIFAR-10 in 3.29 seconds on a single GPU, arXiv:2404.00498",
        cifar(1_972_792, 118_147_360),
    ),
}
