"""Preprocessing: what is fitted to the training images, and then done to every image before the model sees it."""

from jaxtrain.registry import Info, Table, publish_factories

_WHITENING = "Hyvarinen & Oja 2000, Independent component analysis, section 5.2"

PREPROCESSING = Table(
    "preprocessing",
    {
        "scale": Info(
            factory="jaxtrain.data.preprocessing.channels:scale",
            description="pixels from 0..255 to [0, 1], and nothing else",
        ),
        "mean": Info(
            factory="jaxtrain.data.preprocessing.channels:mean",
            description="less the mean of each channel",
            paper="Simonyan & Zisserman 2015, arXiv:1409.1556, section 2.1",
        ),
        "mean_std": Info(
            factory="jaxtrain.data.preprocessing.channels:mean_std",
            description="less the mean of each channel, divided by its standard deviation",
            paper="Gross & Wilber 2016, Training and investigating residual nets",
        ),
        "mean_image": Info(
            factory="jaxtrain.data.preprocessing.pixels:mean_image",
            description="less the mean of each pixel, the mean image",
            paper="Krizhevsky et al. 2012, section 2; He et al. 2015, arXiv:1512.03385, section 4.2",
        ),
        "standardize": Info(
            factory="jaxtrain.data.preprocessing.pixels:standardize",
            description="each pixel of each channel to mean 0 and standard deviation 1",
            paper="LeCun et al. 1998, Efficient backprop, section 4.3",
        ),
        "pca": Info(
            factory="jaxtrain.data.preprocessing.whitening:pca",
            description="rotated to principal components, which are not correlated; the first ones, if so wished",
            paper="LeCun et al. 1998, Efficient backprop, section 4.3",
        ),
        "whiten": Info(
            factory="jaxtrain.data.preprocessing.whitening:whiten",
            description="principal components, each divided by its standard deviation: covariance I",
            paper=_WHITENING,
        ),
        "zca": Info(
            factory="jaxtrain.data.preprocessing.whitening:zca",
            description="whitened and rotated back: covariance I, and still an image",
            paper="Krizhevsky 2009, Learning multiple layers of features from tiny images, appendix A",
        ),
    },
)

create, names = PREPROCESSING.create, PREPROCESSING.names
publish_factories(__name__, PREPROCESSING)
