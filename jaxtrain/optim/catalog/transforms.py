"""The tables of what stands before an optimizer, on gradients, and behind it, on parameters."""

from jaxtrain.registry import Info, Table

GRADIENT_TRANSFORMS = Table(
    "gradient_transform",
    {
        "clip_by_value": Info(
            "jaxtrain.optim.gradients:clip_by_value", "cuts each element of the gradient off at a value"
        ),
        "clip_by_norm": Info(
            "jaxtrain.optim.gradients:clip_by_norm",
            "scales the whole gradient down to a norm",
            "Pascanu et al. 2013, arXiv:1211.5063",
        ),
        "agc": Info(
            "jaxtrain.optim.gradients:agc",
            "adaptive clipping: the gradient of each unit to a share of the norm of its weights",
            "Brock et al. 2021, arXiv:2102.06171",
        ),
        "gradient_noise": Info(
            "jaxtrain.optim.gradients:gradient_noise",
            "adds Gaussian noise whose variance falls with the step",
            "Neelakantan et al. 2015, arXiv:1511.06807",
            supplied=("seed",),
        ),
        "delay": Info(
            "jaxtrain.optim.gradients:delay",
            "hands the gradient on some steps late, as asynchronous workers do",
            "Downpour: Dean et al. 2012; Hogwild: Recht et al. 2011, arXiv:1106.5730",
        ),
    },
)

AVERAGES = Table(
    "average",
    {
        "polyak": Info(
            "jaxtrain.optim.averages:polyak",
            "running mean of the parameters from the initial ones on, 0.995 old and 0.005 new a step",
            "Polyak & Juditsky 1992",
        ),
        "ema": Info(
            "jaxtrain.optim.averages:ema",
            "exponential moving average of the parameters, with warm-up or debiasing",
            "as in Tarvainen & Valpola 2017, arXiv:1703.01780",
        ),
        "swa": Info(
            "jaxtrain.optim.averages:swa",
            "plain mean of the parameters at the ends of cycles, from a step on",
            "Izmailov et al. 2018, arXiv:1803.05407",
        ),
        "slow_weights": Info(
            "jaxtrain.optim.lookahead:slow_weights",
            "every few steps the parameters go back to a running average of them, the further the later",
            "Jordan 2024, arXiv:2404.00498, section 3.4; after Zhang et al. 2019, arXiv:1907.08610",
            supplied=("total",),
        ),
    },
)
