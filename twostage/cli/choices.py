"""Names that options offer, without what they stand for: that needs torch. A test compares them with what there is."""

ENCODERS = ("dinov2_base", "dinov2_large", "dinov2_giant", "mae_large", "mocov3_base", "mocov3_large", "clip_large",
            "ijepa_huge", "efficientnet_lite0")  # fmt: skip
EXTRACTORS = ("efficientnet_lite0", "inception_v3", "dinov2_large")
GENERATION_METRICS = ("fd", "fd_inf", "sfd", "score", "kid", "precision_recall")
PERCEPTUAL_DISTANCES = ("efficientnet_lite0", "lpips_vgg", "lpips_alex", "lpips_squeeze", "none")
PREDICTORS = ("viv", "lnc", "probe", "srss", "structure", "high_frequency", "slope", "interpolation", "density",
              "fisher", "distortion", "equivariance", "dimension", "rank", "cknna", "rate",
              "reconstruction")  # fmt: skip
SCORE_ORDERS = ("given", "shuffled")
