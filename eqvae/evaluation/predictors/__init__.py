"""Predictors: numbers of a latent space that may tell, before any training, how well a generator will learn on it.

Each predictor is one object in one file, with one interface (`Predictor`); a new one is added to `PREDICTORS`. What
they take is a `LatentSample`, which `measuring` makes of an autoencoder and images.
"""

from eqvae.evaluation.predictors.base import NEEDS, LatentSample, Predictor
from eqvae.evaluation.predictors.cknna import CKNNA
from eqvae.evaluation.predictors.density import DENSITY
from eqvae.evaluation.predictors.dimension import DIMENSION
from eqvae.evaluation.predictors.distortion import DISTORTION
from eqvae.evaluation.predictors.equivariance import EQUIVARIANCE
from eqvae.evaluation.predictors.fisher import FISHER
from eqvae.evaluation.predictors.high_frequency import HIGH_FREQUENCY
from eqvae.evaluation.predictors.interpolation import INTERPOLATION
from eqvae.evaluation.predictors.lnc import LNC
from eqvae.evaluation.predictors.probe import PROBE
from eqvae.evaluation.predictors.rank import RANK
from eqvae.evaluation.predictors.rate import RATE
from eqvae.evaluation.predictors.reconstruction import RECONSTRUCTION
from eqvae.evaluation.predictors.slope import SLOPE
from eqvae.evaluation.predictors.srss import SRSS
from eqvae.evaluation.predictors.structure import STRUCTURE
from eqvae.evaluation.predictors.viv import VIV

PREDICTORS: dict[str, Predictor] = {
    predictor.name: predictor
    for predictor in (
        VIV, LNC, PROBE, SRSS, STRUCTURE, HIGH_FREQUENCY, SLOPE, INTERPOLATION, DENSITY, FISHER, DISTORTION,
        EQUIVARIANCE, DIMENSION, RANK, CKNNA, RATE, RECONSTRUCTION,
    )
}  # fmt: skip

__all__ = ["NEEDS", "PREDICTORS", "LatentSample", "Predictor"]
