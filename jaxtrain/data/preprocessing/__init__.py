"""The registry of preprocessing: functions that are fitted to the training images and then applied to every image."""

from jaxtrain.registry import Entry, Registry, publish_factories

_WHITENING = "Hyvarinen & Oja 2000, Independent component analysis, section 5.2"

PREPROCESSING = Registry(
    "preprocessing",
    {
        "scale": Entry("jaxtrain.data.preprocessing.channels:scale", "pixels scaled from 0..255 to [0, 1]"),
        "mean": Entry(
            "jaxtrain.data.preprocessing.channels:mean",
            "scaled to [0, 1], minus the mean of each channel",
            "Simonyan & Zisserman 2015, arXiv:1409.1556, section 2.1",
        ),
        "mean_std": Entry(
            "jaxtrain.data.preprocessing.channels:mean_std",
            "minus the mean of each channel, divided by its standard deviation",
            "Gross & Wilber 2016, Training and investigating residual nets",
        ),
        "mean_image": Entry(
            "jaxtrain.data.preprocessing.pixels:mean_image",
            "minus the mean image, the mean of each pixel",
            "Krizhevsky et al. 2012, section 2; He et al. 2015, arXiv:1512.03385, section 4.2",
        ),
        "standardize": Entry(
            "jaxtrain.data.preprocessing.pixels:standardize",
            "each pixel of each channel standardized to mean 0 and standard deviation 1",
            "LeCun et al. 1998, Efficient backprop, section 4.3",
        ),
        "pca": Entry(
            "jaxtrain.data.preprocessing.whitening:pca",
            "projected onto all or the first principal components, which are uncorrelated",
            "LeCun et al. 1998, Efficient backprop, section 4.3",
        ),
        "whiten": Entry(
            "jaxtrain.data.preprocessing.whitening:whiten",
            "principal components divided by their standard deviations: covariance I",
            _WHITENING,
        ),
        "zca": Entry(
            "jaxtrain.data.preprocessing.whitening:zca",
            "whitened and rotated back to pixels: covariance I, similar to the image",
            "Krizhevsky 2009, Learning multiple layers of features from tiny images, appendix A",
        ),
    },
)

create, names = PREPROCESSING.create, PREPROCESSING.names
publish_factories(__name__, PREPROCESSING)
