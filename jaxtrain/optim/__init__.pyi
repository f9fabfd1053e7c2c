# Written by scripts/write_stubs.py: what the package offers, for editors and type checkers.
from jaxtrain.optim.adagrad import adadelta as adadelta
from jaxtrain.optim.adagrad import adagrad as adagrad
from jaxtrain.optim.adam import adam as adam
from jaxtrain.optim.adam import adam_uncorrected as adam_uncorrected
from jaxtrain.optim.adam import adamw as adamw
from jaxtrain.optim.adam import nadam as nadam
from jaxtrain.optim.averages import ema as ema
from jaxtrain.optim.averages import polyak as polyak
from jaxtrain.optim.averages import swa as swa
from jaxtrain.optim.bfgs import bfgs as bfgs
from jaxtrain.optim.catalog.losses import LOSSES as LOSSES
from jaxtrain.optim.catalog.losses import PENALTIES as PENALTIES
from jaxtrain.optim.catalog.optimizers import OPTIMIZERS as OPTIMIZERS
from jaxtrain.optim.catalog.schedules import SCHEDULES as SCHEDULES
from jaxtrain.optim.catalog.transforms import AVERAGES as AVERAGES
from jaxtrain.optim.catalog.transforms import GRADIENT_TRANSFORMS as GRADIENT_TRANSFORMS
from jaxtrain.optim.easgd import easgd as easgd
from jaxtrain.optim.gradients import agc as agc
from jaxtrain.optim.gradients import clip_by_norm as clip_by_norm
from jaxtrain.optim.gradients import clip_by_value as clip_by_value
from jaxtrain.optim.gradients import delay as delay
from jaxtrain.optim.gradients import gradient_noise as gradient_noise
from jaxtrain.optim.hessian_free import hessian_free as hessian_free
from jaxtrain.optim.kfac import kfac as kfac
from jaxtrain.optim.lars_lamb import lamb as lamb
from jaxtrain.optim.lars_lamb import lars as lars
from jaxtrain.optim.lbfgs import lbfgs as lbfgs
from jaxtrain.optim.lion import lion as lion
from jaxtrain.optim.lookahead import lookahead as lookahead
from jaxtrain.optim.lookahead import slow_weights as slow_weights
from jaxtrain.optim.muon import muon as muon
from jaxtrain.optim.newton import newton as newton
from jaxtrain.optim.nonlinear_cg import nonlinear_cg as nonlinear_cg
from jaxtrain.optim.powersign import addsign as addsign
from jaxtrain.optim.powersign import powersign as powersign
from jaxtrain.optim.prodigy import prodigy as prodigy
from jaxtrain.optim.rmsprop import rmsprop as rmsprop
from jaxtrain.optim.sam import sam as sam
from jaxtrain.optim.schedule_free import schedule_free as schedule_free
from jaxtrain.optim.sgd import momentum as momentum
from jaxtrain.optim.sgd import nesterov as nesterov
from jaxtrain.optim.sgd import sgd as sgd
from jaxtrain.optim.soap import soap as soap
from typing import Any

def create(name: str, /, **options: Any) -> Any: ...
def names() -> list[str]: ...
