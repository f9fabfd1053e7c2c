"""Transforms of a batch with label probabilities: mixup, CutMix and label smoothing."""

from jaxtrain.registry import Entry, Registry, publish_factories

_MIXUP = "Zhang et al. 2018, mixup: beyond empirical risk minimization, arXiv:1710.09412"
_CUTMIX = "Yun et al. 2019, CutMix, arXiv:1905.04899"

MIXINGS = Registry(
    "mixing",
    {
        "mixup": Entry(
            "jaxtrain.augment.mixing.images:mixup",
            "averages each image with another one of the batch, and their labels with the same weights",
            _MIXUP,
            requires="two examples",
        ),
        "cutmix": Entry(
            "jaxtrain.augment.mixing.images:cutmix",
            "pastes a rectangle of another image into each image; labels are weighted by area",
            _CUTMIX,
            requires="two examples",
        ),
        "mixup_or_cutmix": Entry(
            "jaxtrain.augment.mixing.images:mixup_or_cutmix",
            "applies mixup or CutMix, drawn for each batch or example",
            f"{_MIXUP}; {_CUTMIX}; together: Touvron et al. 2021, DeiT, arXiv:2012.12877",
            requires="two examples",
        ),
        "label_smoothing": Entry(
            "jaxtrain.augment.mixing.labels:label_smoothing",
            "spreads a share of each label evenly over all classes; the share may follow a schedule",
            "Szegedy et al. 2016, Rethinking the Inception architecture, arXiv:1512.00567, section 7",
        ),
    },
)

create, names = MIXINGS.create, MIXINGS.names
publish_factories(__name__, MIXINGS)
