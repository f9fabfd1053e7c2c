"""The table of optimizers."""

from jaxtrain.registry import Info, Table

_FIRST_ORDER = {
    "sgd": Info(
        factory="jaxtrain.optim.sgd:sgd",
        description="stochastic gradient descent, with momentum (learning rate outside) or torch's Nesterov",
        paper="Robbins & Monro 1951; Polyak 1964",
    ),
    "momentum": Info(
        factory="jaxtrain.optim.sgd:momentum",
        description="classical momentum, the learning rate inside the velocity (AlexNet, Caffe) or outside",
        paper="Polyak 1964; Krizhevsky et al. 2012; Sutskever et al. 2013",
    ),
    "nesterov": Info(
        factory="jaxtrain.optim.sgd:nesterov",
        description="Nesterov's accelerated gradient, the look-ahead form under any rate and momentum schedule",
        paper="Nesterov 1983; Sutskever et al. 2013",
    ),
    "adagrad": Info(
        factory="jaxtrain.optim.adagrad:adagrad",
        description="divides by the root of the sum of squared gradients, accumulated from 0",
        paper="Duchi et al. 2011",
    ),
    "rmsprop": Info(
        factory="jaxtrain.optim.rmsprop:rmsprop",
        description="divides by a running root mean square of the gradients, with or without momentum",
        paper="Tieleman & Hinton 2012",
    ),
    "adadelta": Info(
        factory="jaxtrain.optim.adagrad:adadelta",
        description="RMSProp whose numerator is the running root mean square of its own steps",
        paper="Zeiler 2012, arXiv:1212.5701",
    ),
    "adam": Info(
        factory="jaxtrain.optim.adam:adam",
        description="adaptive moments with bias correction; weight decay as an L2 penalty where wanted",
        paper="Kingma & Ba 2015, arXiv:1412.6980",
    ),
    "adam_uncorrected": Info(
        factory="jaxtrain.optim.adam:adam_uncorrected",
        description="Adam without bias correction, to see what the correction is for",
        paper="Kingma & Ba 2015, section 3",
    ),
    "adamw": Info(
        factory="jaxtrain.optim.adam:adamw",
        description="Adam with decoupled weight decay, multiplied by the learning rate or by its schedule alone",
        paper="Loshchilov & Hutter 2019, arXiv:1711.05101",
    ),
    "nadam": Info(
        factory="jaxtrain.optim.adam:nadam",
        description="Adam with Nesterov's momentum",
        paper="Dozat 2016",
    ),
    "powersign": Info(
        factory="jaxtrain.optim.powersign:powersign",
        description="scales the gradient by a power of whether its sign agrees with its running mean's",
        paper="Bello et al. 2017, arXiv:1709.07417",
    ),
    "addsign": Info(
        factory="jaxtrain.optim.powersign:addsign",
        description="scales the gradient by one plus whether its sign agrees with its running mean's",
        paper="Bello et al. 2017, arXiv:1709.07417",
    ),
    "lion": Info(
        factory="jaxtrain.optim.lion:lion",
        description="the sign of an interpolated momentum, with decoupled weight decay",
        paper="Chen et al. 2023, arXiv:2302.06675",
    ),
    "lars": Info(
        factory="jaxtrain.optim.lars_lamb:lars",
        description="momentum with a rate for each layer by its trust ratio, for large batches",
        paper="You et al. 2017, arXiv:1708.03888",
    ),
    "lamb": Info(
        factory="jaxtrain.optim.lars_lamb:lamb",
        description="AdamW with a rate for each layer by its trust ratio, for large batches",
        paper="You et al. 2020, arXiv:1904.00962",
    ),
    "muon": Info(
        factory="jaxtrain.optim.muon:muon",
        description="orthogonalizes the momentum of each matrix by Newton-Schulz; Adam for the rest",
        paper="Jordan et al. 2024",
    ),
    "prodigy": Info(
        factory="jaxtrain.optim.prodigy:prodigy",
        description="Adam that estimates its own learning rate from the distance traveled",
        paper="Mishchenko & Defazio 2024, arXiv:2306.06101",
        couples=True,
    ),
    "soap": Info(
        factory="jaxtrain.optim.soap:soap",
        description="Adam in the eigenbasis of Shampoo's preconditioner",
        paper="Vyas et al. 2025, arXiv:2409.11321; Gupta et al. 2018, arXiv:1802.09568",
    ),
    "easgd": Info(
        factory="jaxtrain.optim.easgd:easgd",
        description="elastic averaging: workers on shares of the batch, tied to a center that is what is trained",
        paper="Zhang et al. 2015, arXiv:1412.6651",
        couples=True,
    ),
}

_WRAPPERS = {
    "sam": Info(
        factory="jaxtrain.optim.sam:sam",
        description="sharpness-aware minimization: another optimizer, with the gradient at the worst point nearby",
        paper="Foret et al. 2021, arXiv:2010.01412",
    ),
    "lookahead": Info(
        factory="jaxtrain.optim.lookahead:lookahead",
        description="k steps of another optimizer forward, one step of slow weights toward where they led",
        paper="Zhang et al. 2019, arXiv:1907.08610",
        couples=True,
    ),
    "schedule_free": Info(
        factory="jaxtrain.optim.schedule_free:schedule_free",
        description="another optimizer without momentum or schedule, with interpolation and averaging in their place",
        paper="Defazio et al. 2024, arXiv:2405.15682",
        couples=True,
    ),
}

_SECOND_ORDER = {
    "newton": Info(
        factory="jaxtrain.optim.newton:newton",
        description="Newton's method with the dense Hessian and Levenberg-Marquardt damping, for small nets",
        paper="Levenberg 1944; Marquardt 1963; Nocedal & Wright 2006, chapter 3",
        needs="full batch",
        couples=True,
    ),
    "bfgs": Info(
        factory="jaxtrain.optim.bfgs:bfgs",
        description="the inverse Hessian from differences of gradients, dense, with a line search",
        paper="Broyden, Fletcher, Goldfarb, Shanno 1970; Nocedal & Wright 2006, chapter 6",
        needs="full batch",
        couples=True,
    ),
    "lbfgs": Info(
        factory="jaxtrain.optim.lbfgs:lbfgs",
        description="BFGS from the last m steps, by the two-loop recursion, with a line search",
        paper="Nocedal 1980; Liu & Nocedal 1989",
        needs="full batch",
        couples=True,
    ),
    "nonlinear_cg": Info(
        factory="jaxtrain.optim.nonlinear_cg:nonlinear_cg",
        description="nonlinear conjugate gradients, Fletcher-Reeves or Polak-Ribiere+, with a line search",
        paper="Fletcher & Reeves 1964; Polak & Ribiere 1969; Nocedal & Wright 2006, chapter 5",
        needs="full batch",
        couples=True,
    ),
    "hessian_free": Info(
        factory="jaxtrain.optim.hessian_free:hessian_free",
        description="truncated Newton: conjugate gradients on Gauss-Newton or Hessian products, damped",
        paper="Martens 2010",
        needs="full batch",
        couples=True,
    ),
    "kfac": Info(
        factory="jaxtrain.optim.kfac:kfac",
        description="natural gradient by Kronecker-factored curvature of dense and convolutional layers",
        paper="Martens & Grosse 2015, arXiv:1503.05671; Grosse & Martens 2016, arXiv:1602.01407",
        supplied=("seed",),
        needs="softmax",
        couples=True,
    ),
}

OPTIMIZERS = Table("optimizer", _FIRST_ORDER | _WRAPPERS | _SECOND_ORDER)
