"""Rate: how much a posterior says, in nats per latent element."""

from eqvae.evaluation.predictors.base import LatentSample, Predictor, known

ACTIVE = 0.01  # nats per element from which on a channel is in use


def compute(sample: LatentSample) -> dict[str, float]:
    """Mean divergence (mu^2 + sigma^2 - 1 - log sigma^2) / 2 per element, and the share of channels in use."""
    rate = known(sample.rate)
    return {"nats": float(rate.mean()), "active_share": float((rate > ACTIVE).double().mean())}


RATE = Predictor("rate", "information rate of the posterior", "Kingma and Welling, 2014, appendix B",
                 {"nats": "open", "active_share": "open"}, compute, needs=("posterior",),
                 invariances=("order", "labels", "signs", "turn"))  # fmt: skip
