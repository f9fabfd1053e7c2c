"""Test-time augmentation (TTA): views of an image over which the probabilities of a model are averaged."""

from jaxtrain.registry import Entry, Registry, publish_factories

TTA = Registry(
    "tta",
    {
        "flips": Entry(
            "jaxtrain.tta.crops:flips",
            "the image and its mirror image",
            "Simonyan & Zisserman 2015, arXiv:1409.1556, section 3.2",
        ),
        "shifted_flips": Entry(
            "jaxtrain.tta.crops:shifted_flips",
            "the image, two copies shifted along the diagonal, and the mirror images",
            "Jordan 2024, arXiv:2404.00498, section 3.5",
        ),
        "ten_crop": Entry(
            "jaxtrain.tta.crops:ten_crop",
            "crops of the four corners and the center, and their mirror images",
            "Krizhevsky et al. 2012, section 4.1",
        ),
        "multi_scale": Entry(
            "jaxtrain.tta.scales:multi_scale",
            "several sizes of the image, with ten crops or a dense evaluation of each",
            "He et al. 2015, arXiv:1512.03385, section 3.4",
        ),
        "googlenet_crops": Entry(
            "jaxtrain.tta.googlenet:googlenet_crops",
            "144 views: 4 scales, 3 squares, 5 crops and the resized square, each also mirrored",
            "Szegedy et al. 2015, arXiv:1409.4842, section 7",
        ),
        "dense": Entry(
            "jaxtrain.tta.scales:dense",
            "fully convolutional evaluation: dense layers applied as convolutions, scores averaged over positions",
            "Simonyan & Zisserman 2015, section 3.2; Sermanet et al. 2014, OverFeat, arXiv:1312.6229",
        ),
        "augmented": Entry(
            "jaxtrain.tta.drawn:augmented",
            "k random augmentations of the image; those of training by default",
            "Ayhan & Berens 2018, Test-time data augmentation, MIDL",
            supplied=("augment",),
        ),
        "draws": Entry(
            "jaxtrain.tta.drawn:draws",
            "k random draws of the model as in training: Monte Carlo dropout and similar layers",
            "Gal & Ghahramani 2016, arXiv:1506.02142; Graham 2014, arXiv:1412.6071",
            requires="randomness",
        ),
    },
)

create, names = TTA.create, TTA.names
publish_factories(__name__, TTA)
