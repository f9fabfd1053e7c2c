"""Registries of losses and of penalties on the parameters."""

from jaxtrain.registry import Entry, Registry

LOSSES = Registry(
    "loss",
    {
        "cross_entropy": Entry(
            "jaxtrain.optim.losses:cross_entropy",
            "softmax cross-entropy with optional label smoothing",
            "smoothing: Szegedy et al. 2016, arXiv:1512.00567",
        ),
        "binary_cross_entropy": Entry(
            "jaxtrain.optim.losses:binary_cross_entropy",
            "sigmoid cross-entropy of each class against the rest, summed over the classes",
            "as in Wightman et al. 2021, arXiv:2110.00476",
        ),
        "focal": Entry(
            "jaxtrain.optim.losses:focal",
            "softmax cross-entropy with less weight on well-classified examples",
            "Lin et al. 2017, arXiv:1708.02002",
        ),
        "hinge": Entry(
            "jaxtrain.optim.margin_losses:hinge",
            "multiclass hinge loss (support vector machine), summed over the wrong classes",
            "Weston & Watkins 1999",
        ),
        "squared_hinge": Entry(
            "jaxtrain.optim.margin_losses:squared_hinge",
            "multiclass hinge loss with each class's violation squared",
            "Tang 2013, arXiv:1306.0239",
        ),
        "template_mse": Entry(
            "jaxtrain.optim.margin_losses:template_mse",
            "squared distance to the template of the class",
            "LeCun et al. 1998, section II.B",
        ),
    },
)

PENALTIES = Registry(
    "penalty",
    {
        "l1": Entry(
            "jaxtrain.optim.penalties:l1", "sum of absolute values; drives parameters to zero", "Tibshirani 1996"
        ),
        "l2": Entry(
            "jaxtrain.optim.penalties:l2",
            "sum of squares; equals a weight decay of twice the strength",
            "Hoerl & Kennard 1970",
        ),
        "elastic_net": Entry(
            "jaxtrain.optim.penalties:elastic_net", "sum of squares plus sum of absolute values", "Zou & Hastie 2005"
        ),
    },
)
