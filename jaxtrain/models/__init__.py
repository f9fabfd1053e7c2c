"""Models: Linen modules `(images f32[N, H, W, C], *, train) -> logits f32[N, classes]`, one file a family."""

from collections.abc import Callable
from typing import Any

from jaxtrain.tables import Info, Table

MODELS = Table(
    "model",
    {
        "linear": Info(
            factory="jaxtrain.models.perceptron:linear",
            description="softmax regression: one dense layer on the pixels",
            supplied=("num_classes",),
            facts={"input": (28, 28, 1), "num_classes": 10, "parameters": 7_850, "multiply_adds": 7_840},
        ),
        "mlp": Info(
            factory="jaxtrain.models.perceptron:mlp",
            description="multilayer perceptron: dense layers of given widths, with dropout where wanted",
            paper="Rumelhart et al. 1986; dropout: Srivastava et al. 2014",
            supplied=("num_classes",),
            facts={"input": (28, 28, 1), "num_classes": 10, "parameters": 669_706, "multiply_adds": 668_672},
        ),
        "lenet5": Info(
            factory="jaxtrain.models.lenet:lenet5",
            description="LeNet-5, the modern simplification: full C3, plain pooling, softmax output; 32x32 input",
            paper="LeCun et al. 1998, Gradient-based learning applied to document recognition",
            supplied=("num_classes",),
            facts={"input": (32, 32, 1), "num_classes": 10, "parameters": 61_706, "multiply_adds": 416_520},
        ),
    },
)

create, names = MODELS.create, MODELS.names


def __getattr__(name: str) -> Callable[..., Any]:
    return MODELS.attribute(__name__, name)
