# Written by scripts/write_stubs.py: what the package offers, for editors and type checkers.
from jaxtrain.augment.affine_maps import affine as affine
from jaxtrain.augment.affine_maps import rotate as rotate
from jaxtrain.augment.affine_maps import scale as scale
from jaxtrain.augment.affine_maps import shear as shear
from jaxtrain.augment.affine_maps import stretch as stretch
from jaxtrain.augment.affine_maps import translate as translate
from jaxtrain.augment.catalog import ROWS as ROWS
from jaxtrain.augment.chains import augmix as augmix
from jaxtrain.augment.color import brightness as brightness
from jaxtrain.augment.color import contrast as contrast
from jaxtrain.augment.color import hue as hue
from jaxtrain.augment.color import random_gray as random_gray
from jaxtrain.augment.color import saturation as saturation
from jaxtrain.augment.distortion import lens as lens
from jaxtrain.augment.distortion import projective as projective
from jaxtrain.augment.geometry import alternating_flip_lr as alternating_flip_lr
from jaxtrain.augment.geometry import flip_lr as flip_lr
from jaxtrain.augment.geometry import flip_ud as flip_ud
from jaxtrain.augment.geometry import pad_crop as pad_crop
from jaxtrain.augment.jitter import color_jitter as color_jitter
from jaxtrain.augment.occlusion import cutout as cutout
from jaxtrain.augment.occlusion import random_erasing as random_erasing
from jaxtrain.augment.policies import autoaugment as autoaugment
from jaxtrain.augment.policies import randaugment as randaugment
from jaxtrain.augment.policies import trivialaugment as trivialaugment
from jaxtrain.augment.principal_colors import fancy_pca as fancy_pca
from jaxtrain.augment.sharpness import blur as blur
from jaxtrain.augment.sharpness import sharpen as sharpen
from jaxtrain.augment.tones import autocontrast as autocontrast
from jaxtrain.augment.tones import equalize as equalize
from jaxtrain.augment.tones import gamma as gamma
from jaxtrain.augment.tones import invert as invert
from jaxtrain.augment.tones import posterize as posterize
from jaxtrain.augment.tones import solarize as solarize
from jaxtrain.registry import Table
from typing import Any

AUGMENTATIONS: Table
def create(name: str, /, **options: Any) -> Any: ...
def names() -> list[str]: ...
