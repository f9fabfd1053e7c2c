"""What joins the examples of a batch, or makes probabilities of their labels: mixup, CutMix, label smoothing."""

from jaxtrain.registry import Info, Table, publish_factories

_MIXUP = "Zhang et al. 2018, mixup: beyond empirical risk minimization, arXiv:1710.09412"
_CUTMIX = "Yun et al. 2019, CutMix, arXiv:1905.04899"

MIXINGS = Table(
    "mixing",
    {
        "mixup": Info(
            factory="jaxtrain.augment.mixing.images:mixup",
            description="averages each image with another of the batch, and their labels with the same weights",
            paper=_MIXUP,
            needs="two examples",
        ),
        "cutmix": Info(
            factory="jaxtrain.augment.mixing.images:cutmix",
            description="puts a rectangle of another image of the batch into each; labels weigh as much as areas",
            paper=_CUTMIX,
            needs="two examples",
        ),
        "mixup_or_cutmix": Info(
            factory="jaxtrain.augment.mixing.images:mixup_or_cutmix",
            description="one of the two, drawn for each batch",
            paper=f"{_MIXUP}; {_CUTMIX}; together: Touvron et al. 2021, DeiT, arXiv:2012.12877",
            needs="two examples",
        ),
        "label_smoothing": Info(
            factory="jaxtrain.augment.mixing.labels:label_smoothing",
            description="gives a share of each label to all classes alike; the share may follow a schedule",
            paper="Szegedy et al. 2016, Rethinking the Inception architecture, arXiv:1512.00567, section 7",
        ),
    },
)

create, names = MIXINGS.create, MIXINGS.names
publish_factories(__name__, MIXINGS)
