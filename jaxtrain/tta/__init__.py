"""Test-time views: what of an image a model is shown at test, and how; its probabilities are averaged over them."""

from jaxtrain.registry import Info, Table, publish_factories

VIEWS = Table(
    "view",
    {
        "flips": Info(
            factory="jaxtrain.tta.crops:flips",
            description="the image and its mirror image",
            paper="Simonyan & Zisserman 2015, arXiv:1409.1556, section 3.2",
        ),
        "shifted_flips": Info(
            factory="jaxtrain.tta.crops:shifted_flips",
            description="the image, moved both ways along the diagonal, and the mirror images",
            paper="Jordan 2024, arXiv:2404.00498, section 3.5",
        ),
        "ten_crop": Info(
            factory="jaxtrain.tta.crops:ten_crop",
            description="four corners and the center, and their mirror images",
            paper="Krizhevsky et al. 2012, section 4.1",
        ),
        "multi_scale": Info(
            factory="jaxtrain.tta.scales:multi_scale",
            description="several sizes of the image, of each ten crops or all places at once",
            paper="He et al. 2015, arXiv:1512.03385, section 3.4",
        ),
        "googlenet_crops": Info(
            factory="jaxtrain.tta.googlenet:googlenet_crops",
            description="144 crops: 4 scales, 3 squares, 5 crops and the square itself, each mirrored",
            paper="Szegedy et al. 2015, arXiv:1409.4842, section 7",
        ),
        "dense": Info(
            factory="jaxtrain.tta.scales:dense",
            description="all places of the image at once: dense layers applied as convolutions, scores averaged",
            paper="Simonyan & Zisserman 2015, section 3.2; Sermanet et al. 2014, OverFeat, arXiv:1312.6229",
        ),
        "augmented": Info(
            factory="jaxtrain.tta.drawn:augmented",
            description="k draws of augmentations, those of training if no others are named",
            paper="Ayhan & Berens 2018, Test-time data augmentation, MIDL",
            supplied=("augment",),
        ),
        "draws": Info(
            factory="jaxtrain.tta.drawn:draws",
            description="k draws of what the model draws in training: Monte Carlo dropout and the like",
            paper="Gal & Ghahramani 2016, arXiv:1506.02142; Graham 2014, arXiv:1412.6071",
            needs="randomness",
        ),
    },
)

create, names = VIEWS.create, VIEWS.names
publish_factories(__name__, VIEWS)
