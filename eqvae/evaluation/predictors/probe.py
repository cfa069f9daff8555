"""Linear probe: can a linear map tell the classes apart?"""

import torch
import torch.nn.functional as F
from torch import Tensor

from eqvae.evaluation.predictors.base import LatentSample, Predictor, known
from eqvae.evaluation.predictors.principal import principal_directions

FOLDS, COMPONENTS, NUM_BASIS_IMAGES = 5, 64, 2000
PENALTIES = tuple(10.0**power for power in range(-4, 3))  # times the features' mean variance


def folds(labels: Tensor) -> Tensor:
    """Fold of each image [N]: every class is dealt out in turn, since its images may lie at regular distances."""
    same = labels[:, None] == labels[None]
    return same.tril(-1).sum(1) % FOLDS


def ridge(features: Tensor, targets: Tensor) -> Tensor:
    """Weights [D, K] of a ridge regression of centred [N, D], its penalty chosen by leave-one-out error."""
    left, values, right = torch.linalg.svd(features, full_matrices=False)
    along, found = left.T @ targets, []
    for penalty in PENALTIES:
        shrinkage = values.square() / (values.square() + penalty * values.square().mean() + 1e-12)
        leverage = (left.square() @ shrinkage + 1 / len(left)).clamp_max(1 - 1e-6)
        residuals = (targets - left @ (shrinkage[:, None] * along)) / (1 - leverage)[:, None]
        found.append((float(residuals.square().sum()), shrinkage / values.clamp_min(1e-12)))
    return right.T @ (min(found, key=lambda each: each[0])[1][:, None] * along)


def probe_accuracy(features: Tensor, labels: Tensor) -> float:
    """Share of images [N, D] whose class is found by a linear map that was fitted to the other four fifths."""
    features = (features - features.mean(0)) / features.std(0).clamp_min(1e-12)
    targets, fold = F.one_hot(labels.unique(return_inverse=True)[1]).double(), folds(labels)
    right = 0
    for held_out in fold.unique():
        inside, outside = fold != held_out, fold == held_out
        shift, offset = features[inside].mean(0), targets[inside].mean(0)
        scores = (features[outside] - shift) @ ridge(features[inside] - shift, targets[inside] - offset) + offset
        right += int((scores.argmax(1) == targets[outside].argmax(1)).sum())
    return right / len(labels)


def compute(sample: LatentSample) -> dict[str, float]:
    """On pooled latents [C], and on principal components of whole ones: 64, a tenth of the images at most."""
    kept = sample.different()
    labels, latents, count = known(sample.labels)[kept], sample.latents[kept], max(1, min(COMPONENTS, len(kept) // 10))
    basis = principal_directions(sample.few(NUM_BASIS_IMAGES).flatten(1), count).float()
    chance = float(labels.unique(return_counts=True)[1].max()) / len(labels)
    if chance == 1 or not folds(labels).any():
        raise ValueError("probe needs different latents of two classes, and two images of a class")
    features = {"flat": latents.flatten(1) @ basis, "pooled": latents.mean((2, 3))}
    shares = {name: probe_accuracy(each.double(), labels) for name, each in features.items()}
    return {f"{name}_above_chance": (share - chance) / (1 - chance) for name, share in shares.items()} | shares


PROBE = Predictor("probe", "linear-probe separability", "arXiv 2606.03578; Hastie et al., 2009, eq. 7.64",
                  dict.fromkeys(("flat_above_chance", "pooled_above_chance", "flat", "pooled"), "higher"),
                  compute, needs=("labels",), invariances=("labels", "signs", "scale"))  # fmt: skip
