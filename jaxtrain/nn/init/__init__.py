"""Initializers: formulas in the shape of a parameter, and a table of initializations that look at a batch."""

from jaxtrain.registry import Info, Table

INITIALIZATIONS = Table(
    "initialization",
    {
        "whiten_patches": Info(
            "jaxtrain.nn.init.data_dependent:whiten_patches",
            "the first convolution gives the whitened components of its patches, and their negatives",
            "Page 2019, How to train your ResNet; Jordan 2024, arXiv:2404.00498, section 3.2",
        ),
        "lsuv": Info(
            "jaxtrain.nn.init.data_dependent:lsuv",
            "orthonormal kernels, scaled layer by layer until outputs have the variance 1",
            "Mishkin & Matas 2016, All you need is a good init, arXiv:1511.06422",
        ),
        "within_layer": Info(
            "jaxtrain.nn.init.data_dependent:within_layer",
            "kernels and biases with which all channels of a layer have one mean and deviation",
            "Kraehenbuehl et al. 2016, arXiv:1511.06856, algorithm 1",
        ),
    },
)
