"""The tables of what stands before an optimizer, on gradients, and behind it, on parameters."""

from jaxtrain.registry import Info, Table

GRADIENT_TRANSFORMS = Table(
    "gradient_transform",
    {
        "clip_by_value": Info(
            factory="jaxtrain.optim.gradients:clip_by_value",
            description="cuts each element of the gradient off at a value",
        ),
        "clip_by_norm": Info(
            factory="jaxtrain.optim.gradients:clip_by_norm",
            description="scales the whole gradient down to a norm",
            paper="Pascanu et al. 2013, arXiv:1211.5063",
        ),
        "agc": Info(
            factory="jaxtrain.optim.gradients:agc",
            description="adaptive clipping: the gradient of each unit to a share of the norm of its weights",
            paper="Brock et al. 2021, arXiv:2102.06171",
        ),
        "gradient_noise": Info(
            factory="jaxtrain.optim.gradients:gradient_noise",
            description="adds Gaussian noise whose variance falls with the step",
            paper="Neelakantan et al. 2015, arXiv:1511.06807",
            supplied=("seed",),
        ),
        "delay": Info(
            factory="jaxtrain.optim.gradients:delay",
            description="hands the gradient on some steps late, as asynchronous workers do",
            paper="Downpour: Dean et al. 2012; Hogwild: Recht et al. 2011, arXiv:1106.5730",
        ),
    },
)

AVERAGES = Table(
    "average",
    {
        "polyak": Info(
            factory="jaxtrain.optim.averages:polyak",
            description="running mean of the parameters from the initial ones on, 0.995 old and 0.005 new a step",
            paper="Polyak & Juditsky 1992",
        ),
        "ema": Info(
            factory="jaxtrain.optim.averages:ema",
            description="exponential moving average of the parameters, with warm-up or debiasing",
            paper="as in Tarvainen & Valpola 2017, arXiv:1703.01780",
        ),
        "swa": Info(
            factory="jaxtrain.optim.averages:swa",
            description="plain mean of the parameters at the ends of cycles, from a step on",
            paper="Izmailov et al. 2018, arXiv:1803.05407",
        ),
        "slow_weights": Info(
            factory="jaxtrain.optim.lookahead:slow_weights",
            description="every few steps the parameters go back to a running average of them, the further the later",
            paper="Jordan 2024, arXiv:2404.00498, section 3.4; after Zhang et al. 2019, arXiv:1907.08610",
            supplied=("total",),
        ),
    },
)
