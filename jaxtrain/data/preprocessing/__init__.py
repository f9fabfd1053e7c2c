"""Preprocessing: what is fitted to the training images, and then done to every image before the model sees it."""

from jaxtrain.registry import Info, Table, publish_factories

_WHITENING = "Hyvarinen & Oja 2000, Independent component analysis, section 5.2"

PREPROCESSING = Table(
    "preprocessing",
    {
        "scale": Info("jaxtrain.data.preprocessing.channels:scale", "pixels from 0..255 to [0, 1], and nothing else"),
        "mean": Info(
            "jaxtrain.data.preprocessing.channels:mean",
            "less the mean of each channel",
            "Simonyan & Zisserman 2015, arXiv:1409.1556, section 2.1",
        ),
        "mean_std": Info(
            "jaxtrain.data.preprocessing.channels:mean_std",
            "less the mean of each channel, divided by its standard deviation",
            "Gross & Wilber 2016, Training and investigating residual nets",
        ),
        "mean_image": Info(
            "jaxtrain.data.preprocessing.pixels:mean_image",
            "less the mean of each pixel, the mean image",
            "Krizhevsky et al. 2012, section 2; He et al. 2015, arXiv:1512.03385, section 4.2",
        ),
        "standardize": Info(
            "jaxtrain.data.preprocessing.pixels:standardize",
            "each pixel of each channel to mean 0 and standard deviation 1",
            "LeCun et al. 1998, Efficient backprop, section 4.3",
        ),
        "pca": Info(
            "jaxtrain.data.preprocessing.whitening:pca",
            "rotated to principal components, which are not correlated; the first ones, if so wished",
            "LeCun et al. 1998, Efficient backprop, section 4.3",
        ),
        "whiten": Info(
            "jaxtrain.data.preprocessing.whitening:whiten",
            "principal components, each divided by its standard deviation: covariance I",
            _WHITENING,
        ),
        "zca": Info(
            "jaxtrain.data.preprocessing.whitening:zca",
            "whitened and rotated back: covariance I, and still an image",
            "Krizhevsky 2009, Learning multiple layers of features from tiny images, appendix A",
        ),
    },
)

create, names = PREPROCESSING.create, PREPROCESSING.names
publish_factories(__name__, PREPROCESSING)
