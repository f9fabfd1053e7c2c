# Written by scripts/write_stubs.py: what the package offers, for editors and type checkers.
from jaxtrain.augment import affine_maps as affine_maps
from jaxtrain.augment import autoaugment_tables as autoaugment_tables
from jaxtrain.augment import catalog as catalog
from jaxtrain.augment import chains as chains
from jaxtrain.augment import color as color
from jaxtrain.augment import decode as decode
from jaxtrain.augment import distortion as distortion
from jaxtrain.augment import draws as draws
from jaxtrain.augment import example_epochs as example_epochs
from jaxtrain.augment import geometry as geometry
from jaxtrain.augment import histograms as histograms
from jaxtrain.augment import jitter as jitter
from jaxtrain.augment import levels as levels
from jaxtrain.augment import magnitudes as magnitudes
from jaxtrain.augment import mixing as mixing
from jaxtrain.augment import occlusion as occlusion
from jaxtrain.augment import operations as operations
from jaxtrain.augment import options as options
from jaxtrain.augment import pipeline as pipeline
from jaxtrain.augment import policies as policies
from jaxtrain.augment import principal_colors as principal_colors
from jaxtrain.augment import sharpness as sharpness
from jaxtrain.augment import tones as tones
from jaxtrain.augment import warp as warp
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
from jaxtrain.registry import Registry
from typing import Any

AUGMENTATIONS: Registry
def create(name: str, /, **options: Any) -> Any: ...
def names() -> list[str]: ...
