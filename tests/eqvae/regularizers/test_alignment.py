"""Alignment with features: margins and invariances, whose gradient, and encoders of stage 2 by their class."""

import pytest
import torch

from eqvae.autoencoders import load_autoencoder
from eqvae.foundation import EfficientNetMap
from eqvae.module import AutoencoderModule
from eqvae.regularizers import FoundationAlignment, Pass, Regularizers, reconstruct
from eqvae.regularizers.alignment import cosine_margin, similarity_margin
from eqvae.training.cli import TrainCLI
from tests.eqvae.regularizers.registry import CONFIGS, METHODS, absolute, acted_out, key, prepared
from tests.eqvae.test_objective import PIXELS, fit, images


def tokens(seed: int, width: int = 12) -> torch.Tensor:
    return torch.randn(2, 9, width, generator=torch.Generator().manual_seed(seed))


def test_features_that_are_equal_cost_nothing():
    assert cosine_margin(tokens(0), tokens(0), 0.0) == pytest.approx(0, abs=1e-6)
    assert similarity_margin(tokens(0), tokens(0), 0.0) == 0


def test_pairs_do_not_change_under_a_common_rotation_and_scales_of_tokens():
    rotation = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(2))).Q
    scales = torch.rand(2, 9, 1, generator=torch.Generator().manual_seed(3)) + 0.5
    changed = scales * tokens(0) @ rotation
    expected = similarity_margin(tokens(0), tokens(1), 0.25)
    torch.testing.assert_close(similarity_margin(changed, tokens(1), 0.25), expected, rtol=1e-5, atol=1e-6)
    assert cosine_margin(changed, tokens(0), 0.5) > cosine_margin(tokens(0), tokens(0), 0.5) + 0.1


def test_margins_forgive():
    features = tokens(0)
    near = features + 0.2 * tokens(1)
    assert torch.cosine_similarity(near, features, dim=-1).min() > 0.5
    assert cosine_margin(near, features, 0.5) == 0
    assert cosine_margin(near, features, 0.0) > 0
    assert similarity_margin(near, features, 0.5) == 0 < similarity_margin(near, features, 0.0)
    opposite = cosine_margin(-features, features, 0.5)
    assert opposite == pytest.approx(1.5, rel=1e-5)


def test_pairs_are_counted_with_themselves():
    """Two orthogonal tokens against two equal ones: two of four pairs differ by 1."""
    ours, theirs = torch.eye(2)[None], torch.ones(1, 2, 2)
    assert similarity_margin(ours, theirs, 0.25) == pytest.approx(0.75 / 2)


@pytest.mark.parametrize("grid", [None, 4])
def test_terms_are_those_of_projected_latents(grid):
    autoencoder = load_autoencoder(CONFIGS["kl"])
    regularizer = FoundationAlignment(grid=grid)
    regularizer.prepare(autoencoder)
    result, terms = acted_out(regularizer.draw(key()), autoencoder)
    side = grid or 16
    means = result.latents.unflatten(-1, (side, 16 // side)).unflatten(-3, (side, 16 // side)).mean((-3, -1))
    projected = torch.einsum("wc,bchv->bhvw", regularizer.projection[:, :, 0, 0], means).flatten(1, 2)
    features = EfficientNetMap()(images(), side)
    assert features.shape == (4, side**2, 112)
    parts = cosine_margin(projected, features, 0.5), similarity_margin(projected, features, 0.25)
    torch.testing.assert_close(terms["alignment"].value, sum(parts))
    torch.testing.assert_close(terms["alignment_mcos"].value, parts[0].detach())
    assert (terms["alignment"].weight, terms["alignment"].adaptive) == (0.1, True)


def test_gradients_reach_encoder_and_projection_but_no_features():
    regularizer, autoencoder = prepared(METHODS["alignment"])
    _, terms = acted_out(regularizer.draw(key()), autoencoder)
    terms["alignment"].value.backward()
    assert regularizer.projection.grad.abs().sum() > 0
    assert autoencoder.model.encoder.conv_in.weight.grad.abs().sum() > 0
    network = regularizer.encoder._network.on(torch.device("cpu"))
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in network.parameters())
    assert [name for name, _ in regularizer.named_parameters()] == ["projection"]


def test_features_are_those_of_the_image_as_it_was_encoded():
    """A shrunken image has features on the same grid, and they are its own."""
    regularizer, autoencoder = prepared(METHODS["alignment"])
    given = images(2, 16)
    _, terms = acted_out(regularizer.draw(key()), autoencoder, given)
    result = reconstruct(autoencoder, given, regularizer.draw(key()))
    again = {term.name: term for term in regularizer.draw(key()).terms(Pass(autoencoder, result, absolute))}
    assert torch.equal(terms["alignment"].value, again["alignment"].value)
    assert regularizer.draw(key()).grid == 16
    assert regularizer.draw(key(size=(32, 32))).grid == 16
    assert regularizer.draw(key(size=(8, 12))).grid == 8


def test_training_aligns():
    module = AutoencoderModule(
        CONFIGS["kl"], None, PIXELS, learning_rate=3e-3, regularizers=[FoundationAlignment(weight=1.0, grid=4)]
    )

    def value() -> float:
        (regularizer,) = module.regularizers
        _, terms = acted_out(regularizer.draw(key()), module.autoencoder)
        return float(terms["alignment"].value)

    before = value()
    fit(module, steps=12)
    assert value() < 0.9 * before


def test_an_encoder_of_stage_2_is_named_by_its_class():
    text = (
        '[{"class_path": "eqvae.regularizers.FoundationAlignment", "init_args": {"encoder": '
        '{"class_path": "dit.alignment.Encoder", "init_args": {"name": "efficientnet_lite0"}}}}]'
    )
    words = ["--model.init_args.transforms=null", f"--model.init_args.regularizers={text}"]
    module = TrainCLI(["--config", "configs/eqvae/tiny-shapes.yaml", *words], run=False).model
    (alignment,) = module.regularizers
    assert alignment.projection.shape == (1280, 8, 1, 1)
    together = Regularizers([alignment], module.autoencoder)
    _, terms = acted_out(together.draw(key(size=(2, 2))), module.autoencoder, images(2, 8))
    assert terms["alignment"].value.isfinite()


def test_a_grid_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"^alignment: grid must be at least 1 and finite, got 0$"):
        FoundationAlignment(grid=0)
