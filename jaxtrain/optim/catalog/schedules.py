"""The table of schedules, of learning rates and of momenta."""

from jaxtrain.registry import Info, Table

SCHEDULES = Table(
    "schedule",
    {
        "constant": Info(
            factory="jaxtrain.optim.schedules.decaying:constant",
            description="one value, after a linear warm-up where wanted",
        ),
        "step": Info(
            factory="jaxtrain.optim.schedules.decaying:step",
            description="multiplied by a factor again and again after a fixed time",
            paper="GoogLeNet: Szegedy et al. 2015 (4 % every 8 epochs)",
        ),
        "multistep": Info(
            factory="jaxtrain.optim.schedules.decaying:multistep",
            description="multiplied by a factor at each of some boundaries",
            paper="He et al. 2016 (divided by 10)",
        ),
        "exponential": Info(
            factory="jaxtrain.optim.schedules.decaying:exponential",
            description="multiplied by a factor over a fixed time, continuously or as a staircase",
        ),
        "linear": Info(
            factory="jaxtrain.optim.schedules.decaying:linear",
            description="a line down to the end value",
            supplied=("total",),
        ),
        "polynomial": Info(
            factory="jaxtrain.optim.schedules.decaying:polynomial",
            description="a power of what is left of the run",
            supplied=("total",),
        ),
        "cosine": Info(
            factory="jaxtrain.optim.schedules.decaying:cosine",
            description="half a cosine down to the end value",
            paper="Loshchilov & Hutter 2017, arXiv:1608.03983; warm-up: Goyal et al. 2017, arXiv:1706.02677",
            supplied=("total",),
        ),
        "inverse_sqrt": Info(
            factory="jaxtrain.optim.schedules.decaying:inverse_sqrt",
            description="falls with the square root of the step, from the start or from the end of the warm-up",
            paper="Vaswani et al. 2017, arXiv:1706.03762",
        ),
        "sgdr": Info(
            factory="jaxtrain.optim.schedules.periodic:sgdr",
            description="cosine with warm restarts, each period longer than the one before where wanted",
            paper="Loshchilov & Hutter 2017, arXiv:1608.03983",
        ),
        "cyclic": Info(
            factory="jaxtrain.optim.schedules.periodic:cyclic",
            description="equal cosine cycles over the run, each ending low for a snapshot",
            paper="Huang et al. 2017, arXiv:1704.00109, equation 2",
            supplied=("total",),
        ),
        "triangular": Info(
            factory="jaxtrain.optim.schedules.periodic:triangular",
            description="up and down between two values in straight lines",
            paper="Smith 2017, arXiv:1506.01186",
        ),
        "one_cycle": Info(
            factory="jaxtrain.optim.schedules.periodic:one_cycle",
            description="up to the peak, and down to far below the start",
            paper="Smith & Topin 2018, arXiv:1708.07120",
            supplied=("total",),
        ),
        "wsd": Info(
            factory="jaxtrain.optim.schedules.periodic:wsd",
            description="warm-up, a long stable stretch, and a short decay at the end",
            paper="Hu et al. 2024, arXiv:2404.06395; Zhai et al. 2022, arXiv:2106.04560",
            supplied=("total",),
        ),
        "plateau": Info(
            factory="jaxtrain.optim.schedules.on_plateau:plateau",
            description="multiplied by a factor when the validation metric has stopped improving",
            paper="Krizhevsky et al. 2012; He et al. 2016",
            needs="validation",
        ),
        "per_epoch": Info(
            factory="jaxtrain.optim.schedules.decaying:per_epoch",
            description="another schedule, which moves at the start of each epoch only",
            supplied=("examples", "batch_size"),
        ),
        "sutskever_momentum": Info(
            factory="jaxtrain.optim.schedules.momentum:sutskever_momentum",
            description="momentum that rises slowly to its greatest value",
            paper="Sutskever et al. 2013, section 3",
        ),
    },
)
