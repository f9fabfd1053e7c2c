"""Load and save weight files with the names of torchvision, timm and others or our own; resize arrays on request.

model = jaxtrain.models.resnet50(num_classes=10)
variables, report = load_weights("resnet50.safetensors", model, (224, 224, 3), head="new")
print(report)
save_weights("tuned.safetensors", model, (224, 224, 3), variables, naming="timm")
"""

from jaxtrain.models.weights.files import read_arrays, write_arrays
from jaxtrain.models.weights.loading import load_weights
from jaxtrain.models.weights.name_maps import identify_networks
from jaxtrain.models.weights.report import LoadReport
from jaxtrain.models.weights.saving import export_arrays, save_weights

__all__ = [
    "LoadReport",
    "export_arrays",
    "identify_networks",
    "load_weights",
    "read_arrays",
    "save_weights",
    "write_arrays",
]
