"""Test-time views: what of an image a model is shown at test, and how; its probabilities are averaged over them."""

from jaxtrain.registry import Info, Table, publish_factories

VIEWS = Table(
    "view",
    {
        "flips": Info(
            "jaxtrain.tta.crops:flips",
            "the image and its mirror image",
            "Simonyan & Zisserman 2015, arXiv:1409.1556, section 3.2",
        ),
        "shifted_flips": Info(
            "jaxtrain.tta.crops:shifted_flips",
            "the image, moved both ways along the diagonal, and the mirror images",
            "Jordan 2024, arXiv:2404.00498, section 3.5",
        ),
        "ten_crop": Info(
            "jaxtrain.tta.crops:ten_crop",
            "four corners and the center, and their mirror images",
            "Krizhevsky et al. 2012, section 4.1",
        ),
        "multi_scale": Info(
            "jaxtrain.tta.scales:multi_scale",
            "several sizes of the image, of each ten crops or all places at once",
            "He et al. 2015, arXiv:1512.03385, section 3.4",
        ),
        "googlenet_crops": Info(
            "jaxtrain.tta.googlenet:googlenet_crops",
            "144 crops: 4 scales, 3 squares, 5 crops and the square itself, each mirrored",
            "Szegedy et al. 2015, arXiv:1409.4842, section 7",
        ),
        "dense": Info(
            "jaxtrain.tta.scales:dense",
            "all places of the image at once: dense layers applied as convolutions, scores averaged",
            "Simonyan & Zisserman 2015, section 3.2; Sermanet et al. 2014, OverFeat, arXiv:1312.6229",
        ),
        "augmented": Info(
            "jaxtrain.tta.drawn:augmented",
            "k draws of augmentations, those of training if no others are named",
            "Ayhan & Berens 2018, Test-time data augmentation, MIDL",
            supplied=("augment",),
        ),
        "draws": Info(
            "jaxtrain.tta.drawn:draws",
            "k draws of what the model draws in training: Monte Carlo dropout and the like",
            "Gal & Ghahramani 2016, arXiv:1506.02142; Graham 2014, arXiv:1412.6071",
            needs="randomness",
        ),
    },
)

create, names = VIEWS.create, VIEWS.names
publish_factories(__name__, VIEWS)
