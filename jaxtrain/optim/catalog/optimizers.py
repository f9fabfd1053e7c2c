"""The table of optimizers."""

from jaxtrain.registry import Info, Table

_FIRST_ORDER = {
    "sgd": Info(
        "jaxtrain.optim.sgd:sgd",
        "stochastic gradient descent, with momentum (learning rate outside) or torch's Nesterov",
        "Robbins & Monro 1951; Polyak 1964",
    ),
    "momentum": Info(
        "jaxtrain.optim.sgd:momentum",
        "classical momentum, the learning rate inside the velocity (AlexNet, Caffe) or outside",
        "Polyak 1964; Krizhevsky et al. 2012; Sutskever et al. 2013",
    ),
    "nesterov": Info(
        "jaxtrain.optim.sgd:nesterov",
        "Nesterov's accelerated gradient, the look-ahead form under any rate and momentum schedule",
        "Nesterov 1983; Sutskever et al. 2013",
    ),
    "adagrad": Info(
        "jaxtrain.optim.adagrad:adagrad",
        "divides by the root of the sum of squared gradients, accumulated from 0",
        "Duchi et al. 2011",
    ),
    "rmsprop": Info(
        "jaxtrain.optim.rmsprop:rmsprop",
        "divides by a running root mean square of the gradients, with or without momentum",
        "Tieleman & Hinton 2012",
    ),
    "adadelta": Info(
        "jaxtrain.optim.adagrad:adadelta",
        "RMSProp whose numerator is the running root mean square of its own steps",
        "Zeiler 2012, arXiv:1212.5701",
    ),
    "adam": Info(
        "jaxtrain.optim.adam:adam",
        "adaptive moments with bias correction; weight decay as an L2 penalty where wanted",
        "Kingma & Ba 2015, arXiv:1412.6980",
    ),
    "adam_uncorrected": Info(
        "jaxtrain.optim.adam:adam_uncorrected",
        "Adam without bias correction, to see what the correction is for",
        "Kingma & Ba 2015, section 3",
    ),
    "adamw": Info(
        "jaxtrain.optim.adam:adamw",
        "Adam with decoupled weight decay, multiplied by the learning rate or by its schedule alone",
        "Loshchilov & Hutter 2019, arXiv:1711.05101",
    ),
    "nadam": Info("jaxtrain.optim.adam:nadam", "Adam with Nesterov's momentum", "Dozat 2016"),
    "powersign": Info(
        "jaxtrain.optim.powersign:powersign",
        "scales the gradient by a power of whether its sign agrees with its running mean's",
        "Bello et al. 2017, arXiv:1709.07417",
    ),
    "addsign": Info(
        "jaxtrain.optim.powersign:addsign",
        "scales the gradient by one plus whether its sign agrees with its running mean's",
        "Bello et al. 2017, arXiv:1709.07417",
    ),
    "lion": Info(
        "jaxtrain.optim.lion:lion",
        "the sign of an interpolated momentum, with decoupled weight decay",
        "Chen et al. 2023, arXiv:2302.06675",
    ),
    "lars": Info(
        "jaxtrain.optim.lars_lamb:lars",
        "momentum with a rate for each layer by its trust ratio, for large batches",
        "You et al. 2017, arXiv:1708.03888",
    ),
    "lamb": Info(
        "jaxtrain.optim.lars_lamb:lamb",
        "AdamW with a rate for each layer by its trust ratio, for large batches",
        "You et al. 2020, arXiv:1904.00962",
    ),
    "muon": Info(
        "jaxtrain.optim.muon:muon",
        "orthogonalizes the momentum of each matrix by Newton-Schulz; Adam for the rest",
        "Jordan et al. 2024",
    ),
    "prodigy": Info(
        "jaxtrain.optim.prodigy:prodigy",
        "Adam that estimates its own learning rate from the distance traveled",
        "Mishchenko & Defazio 2024, arXiv:2306.06101",
        couples=True,
    ),
    "soap": Info(
        "jaxtrain.optim.soap:soap",
        "Adam in the eigenbasis of Shampoo's preconditioner",
        "Vyas et al. 2025, arXiv:2409.11321; Gupta et al. 2018, arXiv:1802.09568",
    ),
    "easgd": Info(
        "jaxtrain.optim.easgd:easgd",
        "elastic averaging: workers on shares of the batch, tied to a center that is what is trained",
        "Zhang et al. 2015, arXiv:1412.6651",
        couples=True,
    ),
}

_WRAPPERS = {
    "sam": Info(
        "jaxtrain.optim.sam:sam",
        "sharpness-aware minimization: another optimizer, with the gradient at the worst point nearby",
        "Foret et al. 2021, arXiv:2010.01412",
    ),
    "lookahead": Info(
        "jaxtrain.optim.lookahead:lookahead",
        "k steps of another optimizer forward, one step of slow weights toward where they led",
        "Zhang et al. 2019, arXiv:1907.08610",
        couples=True,
    ),
    "schedule_free": Info(
        "jaxtrain.optim.schedule_free:schedule_free",
        "another optimizer without momentum or schedule, with interpolation and averaging in their place",
        "Defazio et al. 2024, arXiv:2405.15682",
        couples=True,
    ),
}

_SECOND_ORDER = {
    "newton": Info(
        "jaxtrain.optim.newton:newton",
        "Newton's method with the dense Hessian and Levenberg-Marquardt damping, for small nets",
        "Levenberg 1944; Marquardt 1963; Nocedal & Wright 2006, chapter 3",
        needs="full batch",
        couples=True,
    ),
    "bfgs": Info(
        "jaxtrain.optim.bfgs:bfgs",
        "the inverse Hessian from differences of gradients, dense, with a line search",
        "Broyden, Fletcher, Goldfarb, Shanno 1970; Nocedal & Wright 2006, chapter 6",
        needs="full batch",
        couples=True,
    ),
    "lbfgs": Info(
        "jaxtrain.optim.lbfgs:lbfgs",
        "BFGS from the last m steps, by the two-loop recursion, with a line search",
        "Nocedal 1980; Liu & Nocedal 1989",
        needs="full batch",
        couples=True,
    ),
    "nonlinear_cg": Info(
        "jaxtrain.optim.nonlinear_cg:nonlinear_cg",
        "nonlinear conjugate gradients, Fletcher-Reeves or Polak-Ribiere+, with a line search",
        "Fletcher & Reeves 1964; Polak & Ribiere 1969; Nocedal & Wright 2006, chapter 5",
        needs="full batch",
        couples=True,
    ),
    "hessian_free": Info(
        "jaxtrain.optim.hessian_free:hessian_free",
        "truncated Newton: conjugate gradients on Gauss-Newton or Hessian products, damped",
        "Martens 2010",
        needs="full batch",
        couples=True,
    ),
    "kfac": Info(
        "jaxtrain.optim.kfac:kfac",
        "natural gradient by Kronecker-factored curvature of dense and convolutional layers",
        "Martens & Grosse 2015, arXiv:1503.05671; Grosse & Martens 2016, arXiv:1602.01407",
        supplied=("seed",),
        needs="softmax",
        couples=True,
    ),
}

OPTIMIZERS = Table("optimizer", _FIRST_ORDER | _WRAPPERS | _SECOND_ORDER)
