"""What holds of every regularizer: it trains, draws from its key alone, composes with EQ, and costs what it says."""

import math

import pytest
import torch

import eqvae.regularizers
from eqvae.autoencoders import Autoencoder
from eqvae.module import AutoencoderModule
from eqvae.regularizers import Equivariance, LatentRegularizer, Passes, Regularizers, TransformDistribution
from tests.eqvae.regularizers.registry import CONFIGS, METHODS, acted_out, key, prepared
from tests.eqvae.test_objective import PIXELS, fit, images
from tests.tiny import needs_bfloat16

EACH = pytest.mark.parametrize("name", METHODS)
KINDS = {
    "equivariance": TransformDistribution(probability=1.0),
    "low_resolution": TransformDistribution(probability=0.0, low_resolution_probability=1.0),
}
DRAWN_IN_HALF = {"explicit"}  # of the steps, hence half a pass


def test_the_registry_has_them_all():
    exported = [getattr(eqvae.regularizers, name) for name in eqvae.regularizers.__all__]
    classes = {each for each in exported if isinstance(each, type) and issubclass(each, LatentRegularizer)}
    assert {method.create for method in METHODS.values()} == classes - {LatentRegularizer}
    assert all(method.create.name == name for name, method in METHODS.items())


@EACH
@pytest.mark.parametrize(
    ("config", "precision"),
    [("kl", "32-true"), pytest.param("kl", "bf16-mixed", marks=needs_bfloat16), ("vq", "32-true")],
)
def test_each_trains(name, config, precision, monkeypatch):
    method, logged = METHODS[name], []
    if config == "vq" and not method.of_vq:
        with pytest.raises(ValueError, match=f"^regularizers: {name} is not for VQ autoencoders: "):
            AutoencoderModule(CONFIGS[config], None, PIXELS, regularizers=[method.create()])
        return
    monkeypatch.setattr("eqvae.module.log_terms", lambda module, terms, shown: logged.append(terms))
    options = {"learning_rate": 1e-3, "trainable": method.trainable, "regularizers": [method.create()]}
    module = AutoencoderModule(CONFIGS[config], None, PIXELS, **options)
    before = module.autoencoder.fingerprint()
    fit(module, steps=2, precision=precision)
    assert len(logged) == 2
    assert all(math.isfinite(value) for terms in logged for value in terms.values())
    assert module.autoencoder.fingerprint() != before


@EACH
def test_draws_are_a_function_of_the_key(name):
    """A resumed run makes another object and draws the same in a step of the same number and images."""
    steps = {}
    for attempt in range(2):
        regularizer, autoencoder = prepared(METHODS[name])
        autoencoder.requires_grad_(False)
        for step in range(8):
            result, terms = acted_out(regularizer.draw(key(step)), autoencoder)
            values = [result.images, result.target, *(term.value for term in terms.values())]
            assert attempt == 0 or all(map(torch.equal, steps[step], values))
            steps[step] = values
    if name not in ("spectrum", "correlation", "alignment", "stay_close"):  # which draw nothing
        assert not all(
            a.shape == b.shape and torch.equal(a, b) for values in steps.values() for a, b in zip(steps[0], values)
        )


@EACH
@pytest.mark.parametrize("kind", KINDS)
def test_each_composes_with_equivariance(name, kind):
    method = METHODS[name]
    if method.create.resizes:
        pytest.skip("one regularizer of a list may draw sizes")
    _, autoencoder = prepared(method)
    both = Regularizers([Equivariance(KINDS[kind]), method.create()], autoencoder)
    for step in range(6):
        draw = both[0].draw(key(step))
        result, terms = acted_out(both.draw(key(step)), autoencoder)
        assert method.create.adaptive == any(term.adaptive for term in terms.values())
        assert result.target.shape == draw.transform(images()).shape
        loss = result.images.sum() + sum(term.value for term in terms.values())
        loss.backward()
        assert loss.isfinite()
    assert both.describe().startswith(f"regularizers: equivariance, {name}; ")


@EACH
def test_each_takes_the_passes_it_says(name):
    seen = {"encoder": 0, "decoder": 0}

    def count(autoencoder: Autoencoder) -> Autoencoder:  # before it is prepared: copies of it count, too
        for part in seen:
            network = getattr(autoencoder.model, part)
            network.register_forward_hook(lambda *_, part=part: seen.__setitem__(part, seen[part] + 1))
        return autoencoder

    regularizer, autoencoder = prepared(METHODS[name], changed=count)
    steps = 20 if name in DRAWN_IN_HALF else 1
    for step in range(steps):
        acted_out(regularizer.draw(key(step)), autoencoder)
    assert Passes(*(count / steps - 1 for count in seen.values())) == pytest.approx(
        tuple(regularizer.extra_passes()), abs=0.2 if name in DRAWN_IN_HALF else 0
    )


@pytest.mark.parametrize("name", ["spectrum", "correlation", "alignment", "stay_close", "explicit"])
def test_what_acts_on_the_encoder_alone_is_refused_where_it_is_frozen(name):
    with pytest.raises(ValueError, match=f"^regularizers: {name} trains the encoder: set trainable to all$"):
        AutoencoderModule(CONFIGS["kl"], None, PIXELS, trainable="decoder", regularizers=[METHODS[name].create()])
