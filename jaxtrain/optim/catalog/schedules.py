"""The table of schedules, of learning rates and of momenta."""

from jaxtrain.registry import Info, Table

SCHEDULES = Table(
    "schedule",
    {
        "constant": Info(
            "jaxtrain.optim.schedules.decaying:constant", "one value, after a linear warm-up where wanted"
        ),
        "step": Info(
            "jaxtrain.optim.schedules.decaying:step",
            "multiplied by a factor again and again after a fixed time",
            "GoogLeNet: Szegedy et al. 2015 (4 % every 8 epochs)",
        ),
        "multistep": Info(
            "jaxtrain.optim.schedules.decaying:multistep",
            "multiplied by a factor at each of some boundaries",
            "He et al. 2016 (divided by 10)",
        ),
        "exponential": Info(
            "jaxtrain.optim.schedules.decaying:exponential",
            "multiplied by a factor over a fixed time, continuously or as a staircase",
        ),
        "linear": Info("jaxtrain.optim.schedules.decaying:linear", "a line down to the end value", supplied=("total",)),
        "polynomial": Info(
            "jaxtrain.optim.schedules.decaying:polynomial", "a power of what is left of the run", supplied=("total",)
        ),
        "cosine": Info(
            "jaxtrain.optim.schedules.decaying:cosine",
            "half a cosine down to the end value",
            "Loshchilov & Hutter 2017, arXiv:1608.03983; warm-up: Goyal et al. 2017, arXiv:1706.02677",
            supplied=("total",),
        ),
        "inverse_sqrt": Info(
            "jaxtrain.optim.schedules.decaying:inverse_sqrt",
            "falls with the square root of the step, from the start or from the end of the warm-up",
            "Vaswani et al. 2017, arXiv:1706.03762",
        ),
        "sgdr": Info(
            "jaxtrain.optim.schedules.periodic:sgdr",
            "cosine with warm restarts, each period longer than the one before where wanted",
            "Loshchilov & Hutter 2017, arXiv:1608.03983",
        ),
        "cyclic": Info(
            "jaxtrain.optim.schedules.periodic:cyclic",
            "equal cosine cycles over the run, each ending low for a snapshot",
            "Huang et al. 2017, arXiv:1704.00109, equation 2",
            supplied=("total",),
        ),
        "triangular": Info(
            "jaxtrain.optim.schedules.periodic:triangular",
            "up and down between two values in straight lines",
            "Smith 2017, arXiv:1506.01186",
        ),
        "one_cycle": Info(
            "jaxtrain.optim.schedules.periodic:one_cycle",
            "up to the peak, and down to far below the start",
            "Smith & Topin 2018, arXiv:1708.07120",
            supplied=("total",),
        ),
        "wsd": Info(
            "jaxtrain.optim.schedules.periodic:wsd",
            "warm-up, a long stable stretch, and a short decay at the end",
            "Hu et al. 2024, arXiv:2404.06395; Zhai et al. 2022, arXiv:2106.04560",
            supplied=("total",),
        ),
        "plateau": Info(
            "jaxtrain.optim.schedules.on_plateau:plateau",
            "multiplied by a factor when the validation metric has stopped improving",
            "Krizhevsky et al. 2012; He et al. 2016",
            needs="validation",
        ),
        "per_epoch": Info(
            "jaxtrain.optim.schedules.decaying:per_epoch",
            "another schedule, which moves at the start of each epoch only",
            supplied=("examples", "batch_size"),
        ),
        "sutskever_momentum": Info(
            "jaxtrain.optim.schedules.momentum:sutskever_momentum",
            "momentum that rises slowly to its greatest value",
            "Sutskever et al. 2013, section 3",
        ),
    },
)
