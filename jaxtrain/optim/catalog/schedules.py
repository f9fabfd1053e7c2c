"""Registry of schedules of the learning rate and the momentum."""

from jaxtrain.registry import Entry, Registry

SCHEDULES = Registry(
    "schedule",
    {
        "constant": Entry(
            "jaxtrain.optim.schedules.decaying:constant", "constant value after an optional linear warm-up"
        ),
        "step": Entry(
            "jaxtrain.optim.schedules.decaying:step",
            "multiplied by a factor at regular intervals",
            "GoogLeNet: Szegedy et al. 2015 (4 % every 8 epochs)",
        ),
        "multistep": Entry(
            "jaxtrain.optim.schedules.decaying:multistep",
            "multiplied by a factor at given boundaries",
            "He et al. 2016 (divided by 10)",
        ),
        "exponential": Entry(
            "jaxtrain.optim.schedules.decaying:exponential",
            "exponential decay by a factor per interval, continuous or as a staircase",
        ),
        "linear": Entry(
            "jaxtrain.optim.schedules.decaying:linear", "linear decay to the end value", supplied=("total",)
        ),
        "polynomial": Entry(
            "jaxtrain.optim.schedules.decaying:polynomial",
            "polynomial decay: a power of the remaining fraction of the run",
            supplied=("total",),
        ),
        "cosine": Entry(
            "jaxtrain.optim.schedules.decaying:cosine",
            "cosine decay to the end value",
            "Loshchilov & Hutter 2017, arXiv:1608.03983; warm-up: Goyal et al. 2017, arXiv:1706.02677",
            supplied=("total",),
        ),
        "inverse_sqrt": Entry(
            "jaxtrain.optim.schedules.decaying:inverse_sqrt",
            "inverse square root of the step, from the start or from the end of the warm-up",
            "Vaswani et al. 2017, arXiv:1706.03762",
        ),
        "sgdr": Entry(
            "jaxtrain.optim.schedules.periodic:sgdr",
            "cosine decay with warm restarts; periods may grow",
            "Loshchilov & Hutter 2017, arXiv:1608.03983",
        ),
        "cyclic": Entry(
            "jaxtrain.optim.schedules.periodic:cyclic",
            "equal cosine cycles over the run, for a snapshot at the end of each",
            "Huang et al. 2017, arXiv:1704.00109, equation 2",
            supplied=("total",),
        ),
        "triangular": Entry(
            "jaxtrain.optim.schedules.periodic:triangular",
            "linear rise and fall between two values",
            "Smith 2017, arXiv:1506.01186",
        ),
        "one_cycle": Entry(
            "jaxtrain.optim.schedules.periodic:one_cycle",
            "rise to the peak, then fall far below the start",
            "Smith & Topin 2018, arXiv:1708.07120",
            supplied=("total",),
        ),
        "wsd": Entry(
            "jaxtrain.optim.schedules.periodic:wsd",
            "warm-up, stable, decay: a long constant stretch and a short decay at the end",
            "Hu et al. 2024, arXiv:2404.06395; Zhai et al. 2022, arXiv:2106.04560",
            supplied=("total",),
        ),
        "plateau": Entry(
            "jaxtrain.optim.schedules.on_plateau:plateau",
            "multiplied by a factor when the validation metric stops improving",
            "Krizhevsky et al. 2012; He et al. 2016",
            requires="validation",
        ),
        "per_epoch": Entry(
            "jaxtrain.optim.schedules.decaying:per_epoch",
            "another schedule, updated only at the start of each epoch",
            supplied=("examples", "batch_size"),
        ),
        "sutskever_momentum": Entry(
            "jaxtrain.optim.schedules.momentum:sutskever_momentum",
            "momentum that rises slowly to its highest value",
            "Sutskever et al. 2013, section 3",
        ),
    },
)
