"""The tables of losses and of penalties on the parameters."""

from jaxtrain.registry import Info, Table

LOSSES = Table(
    "loss",
    {
        "cross_entropy": Info(
            factory="jaxtrain.optim.losses:cross_entropy",
            description="softmax cross-entropy, with label smoothing where wanted",
            paper="smoothing: Szegedy et al. 2016, arXiv:1512.00567",
        ),
        "binary_cross_entropy": Info(
            factory="jaxtrain.optim.losses:binary_cross_entropy",
            description="sigmoid cross-entropy of each class against the rest, summed over the classes",
            paper="as in Wightman et al. 2021, arXiv:2110.00476",
        ),
        "focal": Info(
            factory="jaxtrain.optim.losses:focal",
            description="softmax cross-entropy with the weight of well-classified examples reduced",
            paper="Lin et al. 2017, arXiv:1708.02002",
        ),
        "hinge": Info(
            factory="jaxtrain.optim.margin_losses:hinge",
            description="multiclass support vector machine, the sum over the wrong classes",
            paper="Weston & Watkins 1999",
        ),
        "squared_hinge": Info(
            factory="jaxtrain.optim.margin_losses:squared_hinge",
            description="the hinge loss with each class's violation squared",
            paper="Tang 2013, arXiv:1306.0239",
        ),
        "template_mse": Info(
            factory="jaxtrain.optim.margin_losses:template_mse",
            description="squared distance to a template of the class",
            paper="LeCun et al. 1998, section II.B",
        ),
    },
)

PENALTIES = Table(
    "penalty",
    {
        "l1": Info(
            factory="jaxtrain.optim.penalties:l1",
            description="sum of absolute values, which drives parameters to zero",
            paper="Tibshirani 1996",
        ),
        "l2": Info(
            factory="jaxtrain.optim.penalties:l2",
            description="sum of squares; its gradient is that of a weight decay of twice the strength",
            paper="Hoerl & Kennard 1970",
        ),
        "elastic_net": Info(
            factory="jaxtrain.optim.penalties:elastic_net",
            description="sums of squares and of absolute values together",
            paper="Zou & Hastie 2005",
        ),
    },
)
