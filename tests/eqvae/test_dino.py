"""DINOv2 as features of distances: a network of its kind, two blocks deep, in local files."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.models.vision_transformer import VisionTransformer

from eqvae.data import read_images
from eqvae.evaluation import ReconstructionMetrics, create_extractor, dino
from eqvae.evaluation.dino import ARCHITECTURES, GRID, POSITIONS, SIDE, _resampled
from eqvae.evaluation.feature_sets import as_reference, images_to_feature_set, read_feature_set, write_feature_set
from eqvae.evaluation.generation import feature_sets_to_generation_metrics, measurable
from eqvae.evaluation.measuring_samples import measure_generation
from eqvae.vision_transformers import IMAGENET
from twostage import load_sweep

pytestmark = pytest.mark.filterwarnings("ignore:.*biased upward")
NAME, WIDTH, PUBLISHED_SIDE = "dinov2_large", 32, 518


def vit_mini_patch14_dinov2(
    pretrained=False, pretrained_cfg=None, pretrained_cfg_overlay=None, cache_dir=None, **options
):
    return VisionTransformer(patch_size=14, embed_dim=WIDTH, depth=2, num_heads=2, init_values=1.0, **options)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    """A file as the public one is: a position table of 37 x 37 patches, and a mask token that nothing needs."""
    timm.models.register_model(vit_mini_patch14_dinov2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model("vit_mini_patch14_dinov2", img_size=PUBLISHED_SIDE, num_classes=0)
        state = {key: torch.randn_like(value) * 0.3 for key, value in network.state_dict().items()}
    file = tmp_path_factory.mktemp("dino") / "weights.pth"
    torch.save(state | {"mask_token": torch.zeros(1, WIDTH)}, file)
    return str(file)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, NAME, "vit_mini_patch14_dinov2")


def images(count, seed=0):
    return read_images(f"shapes:{count}:{seed}", 32)


def test_the_features_are_the_class_token_of_images_as_pillow_resizes_them(weights):
    """Resized values are Pillow's within a level of 255, 0.4 % of what a channel takes; features within 2 %."""
    extractor, shown = create_extractor(NAME, weights), images(4)
    (found,) = extractor(shown)
    network = timm.create_model("vit_mini_patch14_dinov2", img_size=SIDE, num_classes=0).eval()
    state = torch.load(weights, weights_only=True)
    state[POSITIONS] = _resampled(state[POSITIONS], weights)
    network.load_state_dict({key: value for key, value in state.items() if key != "mask_token"})
    pillow = [Image.fromarray(each.permute(1, 2, 0).numpy()).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
              for each in shown]  # fmt: skip
    pixels = torch.from_numpy(np.stack([np.array(each) for each in pillow])).permute(0, 3, 1, 2).float() / 255
    mean, deviation = (torch.tensor(values)[:, None, None] for values in IMAGENET)
    with torch.no_grad():
        expected = network.forward_features((pixels - mean) / deviation)[:, 0]
    assert found.shape == (4, WIDTH)
    assert (found - expected).norm() < 0.02 * expected.norm()
    assert (found[0] - found[1]).norm() > 0.1 * found[0].norm()


def test_the_position_table_is_resampled_as_dinov2_does():
    """Patch i of 16 lies at (i + 0.5) 37 / 16.1 - 0.5 of 37; torch's cubic misses a line by 0.05 there.

    By the plain ratio, 37 / 16, the last but one would lie 0.2 further.
    """
    rows = torch.arange(37.0)[:, None].expand(37, 37)
    table = torch.cat((torch.full((1, 1, 1), -7.0), rows.reshape(1, -1, 1)), dim=1)
    found = _resampled(table, "here")
    assert found.shape == (1, 1 + GRID**2, 1)
    assert found[0, 0] == -7
    places = (torch.arange(16) + 0.5) * 37 / 16.1 - 0.5
    torch.testing.assert_close(found[0, 1:, 0].unflatten(0, (16, 16))[1:-1, 4], places[1:-1], rtol=0, atol=0.06)
    assert torch.equal(_resampled(found, "here"), found)
    with pytest.raises(ValueError, match=r"here is no encoder of DINOv2: pos_embed has shape \(1, 8, 1\)"):
        _resampled(table[:, :8], "here")


def test_weights_that_are_not_there_or_of_another_network(weights, tmp_path):
    state = torch.load(weights, weights_only=True)
    torch.save({key: value for key, value in state.items() if key != "norm.weight"}, tmp_path / "cut.pth")
    (tmp_path / "none.pth").write_bytes(b"PK nothing")
    for name, text in (("cut.pth", "is no encoder dinov2_large: norm.weight is missing"), ("none.pth", "be read")):
        with pytest.raises(ValueError, match=text) as error:
            create_extractor(NAME, str(tmp_path / name))
        assert name in str(error.value)
        assert "\n" not in str(error.value)
    dino.ARCHITECTURES[NAME] = "vit_small_patch14_dinov2.lvd142m"  # undone with `small`
    with pytest.raises(ValueError, match=r"cannot be downloaded .*: give a local file of dinov2_large as extractor_w"):
        create_extractor(NAME)


def test_what_is_measured_on_it(weights, tmp_path):
    """No spatial features and no classes: what needs them is left out, and refused where it is asked for."""
    assert measurable(NAME) == ["fd", "fd_inf", "kid", "precision_recall"]
    extractor = create_extractor(NAME, weights)
    real, generated = (images_to_feature_set(images(12, seed), extractor) for seed in (0, 1))
    assert (real.spatial, real.logits) == (None, None)
    write_feature_set(tmp_path / "kept.safetensors", as_reference(real), {})
    kept = read_feature_set(tmp_path / "kept.safetensors", {})
    found = feature_sets_to_generation_metrics(kept, generated, NAME)
    assert set(found) == {"fd_dinov2_large", "kid", "kid_std", "precision", "recall"}
    assert found == feature_sets_to_generation_metrics(real, generated, NAME)
    with pytest.raises(ValueError, match="metric 'sfd' is not measured on dinov2_large: use some of fd, fd_inf, kid"):
        feature_sets_to_generation_metrics(real, generated, NAME, ["sfd"])
    report = measure_generation(images(12, 1), images(12), extractor=NAME, extractor_weights=weights)
    assert {name: report[name] for name in found} == found
    assert report["extractor"] == NAME


def test_it_is_chosen_in_sweeps_and_of_reconstructions(weights):
    words = [f"evaluation.extractor={NAME}", f"evaluation.extractor_weights={weights}"]
    assert load_sweep("configs/sweeps/tiny-shapes.yaml", words).evaluation.extractor == NAME
    with pytest.raises(ValueError, match=r"evaluation\.metrics: use some of fd, fd_inf, kid, precision_recall"):
        load_sweep("configs/sweeps/tiny-shapes.yaml", [*words, "evaluation.metrics=[fd,score]"])
    metrics = ReconstructionMetrics([NAME, "efficientnet_lite0"], weights, perceptual="none")
    real = images(8).float() / 127.5 - 1
    metrics.update(real, real.flip(0) * 0.5)
    assert {"rfd_dinov2_large", "rfd_efficientnet_lite0"} < set(metrics.compute())
    with pytest.raises(ValueError, match=r"extractor_weights .* is of inception_v3 or of dinov2_large: measure one"):
        ReconstructionMetrics([NAME, "inception_v3"], weights)
