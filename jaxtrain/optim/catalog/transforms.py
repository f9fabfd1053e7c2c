"""Registries of gradient transformations (before an optimizer) and parameter averages (after it)."""

from jaxtrain.registry import Entry, Registry

GRADIENT_TRANSFORMS = Registry(
    "gradient_transform",
    {
        "clip_by_value": Entry(
            "jaxtrain.optim.gradients:clip_by_value", "clips each element of the gradient to [-value, value]"
        ),
        "clip_by_norm": Entry(
            "jaxtrain.optim.gradients:clip_by_norm",
            "scales the whole gradient down to a largest norm",
            "Pascanu et al. 2013, arXiv:1211.5063",
        ),
        "agc": Entry(
            "jaxtrain.optim.gradients:agc",
            "adaptive clipping: each unit's gradient norm to a fraction of its weight norm",
            "Brock et al. 2021, arXiv:2102.06171",
        ),
        "gradient_noise": Entry(
            "jaxtrain.optim.gradients:gradient_noise",
            "adds Gaussian noise whose variance falls with the step",
            "Neelakantan et al. 2015, arXiv:1511.06807",
            supplied=("seed",),
        ),
        "delay": Entry(
            "jaxtrain.optim.gradients:delay",
            "delays the gradient by some steps, as asynchronous workers do",
            "Downpour: Dean et al. 2012; Hogwild: Recht et al. 2011, arXiv:1106.5730",
        ),
    },
)

AVERAGES = Registry(
    "average",
    {
        "polyak": Entry(
            "jaxtrain.optim.averages:polyak",
            "running mean of the parameters from the initial ones on; 0.995 old and 0.005 new per step",
            "Polyak & Juditsky 1992",
        ),
        "ema": Entry(
            "jaxtrain.optim.averages:ema",
            "exponential moving average of the parameters, with warm-up or debiasing",
            "as in Tarvainen & Valpola 2017, arXiv:1703.01780",
        ),
        "swa": Entry(
            "jaxtrain.optim.averages:swa",
            "stochastic weight averaging: plain mean of the parameters at regular steps",
            "Izmailov et al. 2018, arXiv:1803.05407",
        ),
        "slow_weights": Entry(
            "jaxtrain.optim.lookahead:slow_weights",
            "moves the parameters back to their running average every few steps, more so late in the run",
            "Jordan 2024, arXiv:2404.00498, section 3.4; after Zhang et al. 2019, arXiv:1907.08610",
            supplied=("total",),
        ),
    },
)
