"""Registry of optimizers."""

from jaxtrain.registry import Entry, Registry

_FIRST_ORDER = {
    "sgd": Entry(
        "jaxtrain.optim.sgd:sgd",
        "stochastic gradient descent; optional momentum (learning rate outside) or torch's Nesterov",
        "Robbins & Monro 1951; Polyak 1964",
    ),
    "momentum": Entry(
        "jaxtrain.optim.sgd:momentum",
        "classical momentum with the learning rate inside the velocity (AlexNet, Caffe) or outside",
        "Polyak 1964; Krizhevsky et al. 2012; Sutskever et al. 2013",
    ),
    "nesterov": Entry(
        "jaxtrain.optim.sgd:nesterov",
        "Nesterov's accelerated gradient, exact under any learning-rate and momentum schedule",
        "Nesterov 1983; Sutskever et al. 2013",
    ),
    "adagrad": Entry(
        "jaxtrain.optim.adagrad:adagrad",
        "gradient divided by the root of the sum of all squared gradients, starting from 0",
        "Duchi et al. 2011",
    ),
    "rmsprop": Entry(
        "jaxtrain.optim.rmsprop:rmsprop",
        "gradient divided by its running root mean square; optional momentum",
        "Tieleman & Hinton 2012",
    ),
    "adadelta": Entry(
        "jaxtrain.optim.adagrad:adadelta",
        "RMSProp with steps scaled by the running root mean square of past steps",
        "Zeiler 2012, arXiv:1212.5701",
    ),
    "adam": Entry(
        "jaxtrain.optim.adam:adam",
        "adaptive moments with bias correction; optional weight decay as an L2 penalty",
        "Kingma & Ba 2015, arXiv:1412.6980",
    ),
    "adam_uncorrected": Entry(
        "jaxtrain.optim.adam:adam_uncorrected",
        "Adam without bias correction, to show the effect of the correction",
        "Kingma & Ba 2015, section 3",
    ),
    "adamw": Entry(
        "jaxtrain.optim.adam:adamw",
        "Adam with decoupled weight decay, multiplied by the learning rate or only by its schedule",
        "Loshchilov & Hutter 2019, arXiv:1711.05101",
    ),
    "nadam": Entry("jaxtrain.optim.adam:nadam", "Adam with Nesterov's momentum", "Dozat 2016"),
    "powersign": Entry(
        "jaxtrain.optim.powersign:powersign",
        "gradient scaled up where its sign agrees with that of its running mean, else down, by a power",
        "Bello et al. 2017, arXiv:1709.07417",
    ),
    "addsign": Entry(
        "jaxtrain.optim.powersign:addsign",
        "gradient scaled up where its sign agrees with that of its running mean, else down, by a sum",
        "Bello et al. 2017, arXiv:1709.07417",
    ),
    "lion": Entry(
        "jaxtrain.optim.lion:lion",
        "steps along the sign of an interpolated momentum; decoupled weight decay",
        "Chen et al. 2023, arXiv:2302.06675",
    ),
    "lars": Entry(
        "jaxtrain.optim.lars_lamb:lars",
        "momentum with a learning rate per layer from its trust ratio, for large batches",
        "You et al. 2017, arXiv:1708.03888",
    ),
    "lamb": Entry(
        "jaxtrain.optim.lars_lamb:lamb",
        "AdamW with a learning rate per layer from its trust ratio, for large batches",
        "You et al. 2020, arXiv:1904.00962",
    ),
    "muon": Entry(
        "jaxtrain.optim.muon:muon",
        "momentum of each matrix orthogonalized by Newton-Schulz; Adam for other parameters",
        "Jordan et al. 2024",
    ),
    "prodigy": Entry(
        "jaxtrain.optim.prodigy:prodigy",
        "Adam with a learning rate estimated from the distance traveled",
        "Mishchenko & Defazio 2024, arXiv:2306.06101",
        coupled=True,
    ),
    "soap": Entry(
        "jaxtrain.optim.soap:soap",
        "Adam in the eigenbasis of Shampoo's preconditioner",
        "Vyas et al. 2025, arXiv:2409.11321; Gupta et al. 2018, arXiv:1802.09568",
    ),
    "easgd": Entry(
        "jaxtrain.optim.easgd:easgd",
        "elastic averaging SGD: workers on parts of the batch, tied to a trained center",
        "Zhang et al. 2015, arXiv:1412.6651",
        coupled=True,
    ),
}

_WRAPPERS = {
    "sam": Entry(
        "jaxtrain.optim.sam:sam",
        "sharpness-aware minimization: another optimizer with the gradient at the worst point nearby",
        "Foret et al. 2021, arXiv:2010.01412",
    ),
    "lookahead": Entry(
        "jaxtrain.optim.lookahead:lookahead",
        "k steps of another optimizer, then one step of slow weights toward the result",
        "Zhang et al. 2019, arXiv:1907.08610",
        coupled=True,
    ),
    "schedule_free": Entry(
        "jaxtrain.optim.schedule_free:schedule_free",
        "interpolation and averaging around an optimizer, in place of momentum and a schedule",
        "Defazio et al. 2024, arXiv:2405.15682",
        coupled=True,
    ),
}

_SECOND_ORDER = {
    "newton": Entry(
        "jaxtrain.optim.newton:newton",
        "Newton's method with the dense Hessian and Levenberg-Marquardt damping, for small nets",
        "Levenberg 1944; Marquardt 1963; Nocedal & Wright 2006, chapter 3",
        requires="full batch",
        coupled=True,
    ),
    "bfgs": Entry(
        "jaxtrain.optim.bfgs:bfgs",
        "dense inverse Hessian from differences of gradients, with a line search",
        "Broyden, Fletcher, Goldfarb, Shanno 1970; Nocedal & Wright 2006, chapter 6",
        requires="full batch",
        coupled=True,
    ),
    "lbfgs": Entry(
        "jaxtrain.optim.lbfgs:lbfgs",
        "BFGS with the last m steps only, by the two-loop recursion, with a line search",
        "Nocedal 1980; Liu & Nocedal 1989",
        requires="full batch",
        coupled=True,
    ),
    "nonlinear_cg": Entry(
        "jaxtrain.optim.nonlinear_cg:nonlinear_cg",
        "nonlinear conjugate gradients, Fletcher-Reeves or Polak-Ribiere+, with a line search",
        "Fletcher & Reeves 1964; Polak & Ribiere 1969; Nocedal & Wright 2006, chapter 5",
        requires="full batch",
        coupled=True,
    ),
    "hessian_free": Entry(
        "jaxtrain.optim.hessian_free:hessian_free",
        "truncated Newton: conjugate gradients with damped Gauss-Newton or Hessian products",
        "Martens 2010",
        requires="full batch",
        coupled=True,
    ),
    "kfac": Entry(
        "jaxtrain.optim.kfac:kfac",
        "natural gradient with Kronecker-factored curvature of dense and convolutional layers",
        "Martens & Grosse 2015, arXiv:1503.05671; Grosse & Martens 2016, arXiv:1602.01407",
        supplied=("seed",),
        requires="softmax",
        coupled=True,
    ),
}

OPTIMIZERS = Registry("optimizer", _FIRST_ORDER | _WRAPPERS | _SECOND_ORDER)
