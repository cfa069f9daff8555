"""Sets of images against each other: streamed statistics, cache, ADM files, Inception's path."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from eqvae.data.npz import NpzSource
from eqvae.evaluation import create_extractor, feature_sets, features_to_statistics
from eqvae.evaluation.distances import inception_score
from eqvae.evaluation.feature_sets import RandomRows, RunningStatistics, images_to_feature_set
from eqvae.evaluation.generation import feature_sets_to_generation_metrics
from eqvae.evaluation.inputs import reference_to_feature_set
from eqvae.evaluation.measurements import read_measurements
from eqvae.evaluation.measuring_samples import measure_generation
from eqvae.evaluation.tables import (
    save_result,
)
from tests.eqvae.image_sets import PixelFeatures, normal, random_images, save_images, statistics

pytestmark = pytest.mark.filterwarnings("ignore:.*biased upward")


def test_streamed_statistics_are_those_of_the_whole():
    features = normal(70, 6) + 1e4
    running = RunningStatistics()
    for part in features.split([1, 30, 2, 37]):
        running.update(part)
    whole, streamed = features_to_statistics(features), running.compute()
    # Float64 sums of 70 terms; the mean of 1e4 must not cost the covariance of 1 its digits: 1e4 * 1e-16 * 70.
    np.testing.assert_allclose(streamed["mu"], whole["mu"], rtol=1e-12)
    np.testing.assert_allclose(streamed["sigma"], whole["sigma"], rtol=1e-9, atol=1e-9)


def test_inception_score_by_hand():
    logits = 3 * normal(40, 5)
    p = logits.softmax(1)
    expected = (p * (p.log() - p.mean(0).log())).sum(1).mean().exp()
    assert inception_score(logits, num_splits=1) == (pytest.approx(float(expected), rel=1e-9), 0)
    sure = 1e3 * torch.eye(10, dtype=torch.float64).repeat(50, 1)
    assert inception_score(sure, num_splits=1)[0] == pytest.approx(10, rel=1e-6)
    assert inception_score(normal(3, 4))[0] >= 1


def test_inception_score_splits_images_in_the_order_given():
    """As ADM's evaluation does; torch-fidelity shuffles first, which sorted classes show best."""
    logits = 50 * torch.eye(10, dtype=torch.float64).repeat_interleave(30, 0)  # ten classes, one to a split
    assert inception_score(logits) == (pytest.approx(1), pytest.approx(0, abs=1e-9))
    assert inception_score(logits, order="shuffled")[0] > 8
    shuffled = logits[torch.from_numpy(np.random.RandomState(2020).permutation(300))]
    assert inception_score(shuffled) == inception_score(logits, order="shuffled")
    with pytest.raises(ValueError, match="order 'sorted' of the Inception score is unknown: use given or shuffled"):
        inception_score(logits, order="sorted")


def test_samples_sorted_by_class_are_warned_of(monkeypatch, tmp_path):
    """As those of class folders, and of `sample.py --labels` with a cache of them."""
    monkeypatch.setattr("eqvae.evaluation.measuring_samples.create_extractor", lambda *given: PixelFeatures())
    images = torch.zeros(300, 3, 16, 16, dtype=torch.uint8)
    images[:, 0, 0, :3] = 50 * torch.eye(3, dtype=torch.uint8).repeat_interleave(100, 0)  # the logits
    images[:, 1] = random_images(300)[:, 1]
    settings = {"metrics": ["score"], "statistics_cache": tmp_path}
    with pytest.warns(UserWarning, match=r"sorted by class, so their Inception score is 1\.\d+ .*, 2\.8\d* shuffled"):
        found = measure_generation(images, images, **settings)
    assert found["score_order"] == "given"
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        measure_generation(images[torch.randperm(300, generator=torch.Generator().manual_seed(0))], images, **settings)
        measure_generation(images, images, score_order="shuffled", **settings)
        measure_generation(images, images, metrics=["fd"])


def sorted_images(num_classes=20, per_class=30, seed=0):
    """Images of classes far apart, all of one class before the next."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randint(30, 226, (num_classes, 1, 3, 4, 4), generator=torch.Generator().manual_seed(99))
    noise = torch.randint(-15, 16, (num_classes, per_class, 3, 4, 4), generator=generator)
    return (centres + noise).clamp(0, 255).to(torch.uint8).flatten(0, 1)


def test_sorted_images_are_not_judged_by_their_first_classes(monkeypatch):
    """With the first rows alone precision would be 0.1 and the kernel distance far from 0."""
    real, generated = sorted_images(seed=0), sorted_images(seed=1)
    exact = feature_sets_to_generation_metrics(*sets(real, generated), "efficientnet_lite0")
    monkeypatch.setattr(feature_sets, "MAX_KEPT_FEATURES", 120)
    real_set, generated_set = sets(real, generated)
    assert (real_set.kept, generated_set.kept) == ("120 of 600, random, seed 0",) * 2
    metrics = feature_sets_to_generation_metrics(real_set, generated_set, "efficientnet_lite0")
    assert exact["precision"] > 0.9
    assert metrics["precision"] > 0.8
    assert metrics["recall"] > 0.8
    assert abs(metrics["kid"] - exact["kid"]) < 4 * metrics["kid_std"]
    assert metrics["fd_efficientnet_lite0"] == exact["fd_efficientnet_lite0"]


def test_stored_statistics_are_not_said_to_be_of_the_images_beside_them(tmp_path, monkeypatch):
    """ADM's files have the statistics of the whole set, and 10,000 of its images."""
    for module in ("inputs", "measuring_samples"):
        monkeypatch.setattr(f"eqvae.evaluation.{module}.create_extractor", lambda *given: PixelFeatures())
    stored = statistics(12, 2) | {f"{key}_s": value for key, value in statistics(2, 5).items()}
    both = save_images(tmp_path / "both.npz", random_images(6), **stored)
    np.savez(tmp_path / "alone.npz", **stored)
    for reference in (both, str(tmp_path / "alone.npz")):
        settings = {"extractor": "inception_v3", "statistics_cache": tmp_path / "cache"}
        result = measure_generation(random_images(8, seed=1), reference, metrics=["fd"], **settings)
        assert result["num_reference"] is None
        assert (result["reference"]["data"], result["reference"]["statistics"]) == (reference, "stored")
        assert len(result["reference"]["fingerprint"]) == 64
        save_result(tmp_path / "result.json", result)
        (measured,) = read_measurements([tmp_path / "result.json"], samples=True)
        assert measured.measured_on == f"{Path(reference).name}, 8 generated images, 16 pixels"
    result = measure_generation(random_images(8, seed=1), "shapes:9:3", metrics=["fd"], statistics_cache=tmp_path)
    assert (result["reference"]["data"], result["reference"]["images"]) == ("shapes:9:3", "all 9")
    save_result(tmp_path / "result.json", result)
    (measured,) = read_measurements([tmp_path / "result.json"], samples=True)
    assert measured.measured_on == "shapes:9:3, 8 generated images, 9 real ones, 16 pixels"


def test_what_a_reference_cannot_give_is_refused_where_it_is_asked_for(tmp_path, monkeypatch):
    """It was left out without a word, up to a result without a number; and another's metric, after all features."""
    for module in ("inputs", "measuring_samples"):
        monkeypatch.setattr(f"eqvae.evaluation.{module}.create_extractor", lambda *given: PixelFeatures())
    reference, samples = tmp_path / "statistics.npz", random_images(8)
    np.savez(reference, **statistics(12, 2))
    settings = {"extractor": "inception_v3", "statistics_cache": tmp_path / "cache"}
    for metric, lacks in (("kid", "no images"), ("sfd", "no statistics of spatial features")):
        with pytest.raises(ValueError, match=rf"'{metric}' cannot be measured: .*statistics\.npz holds {lacks}"):
            measure_generation(samples, str(reference), metrics=["fd", metric], **settings)
    assert {"fid", "is"} < set(measure_generation(samples, str(reference), **settings))  # the usual ones, without kid
    monkeypatch.setattr("eqvae.evaluation.measuring_samples.create_extractor", lambda *given: pytest.fail("too late"))
    with pytest.raises(ValueError, match="'sfd' is not measured on dinov2_large"):
        measure_generation(samples, samples, metrics=["sfd"], extractor="dinov2_large")


def sets(*images):
    return [images_to_feature_set(images.split(50), PixelFeatures()) for images in images]


def test_the_random_part_does_not_depend_on_batches():
    rows = torch.arange(5000.0)[:, None]
    found = []
    for size in (7, 100, 5000):
        kept = RandomRows(400)
        for part in rows.split(size):
            kept.update(part)
            assert kept._num_held <= 2 * 400, "holds more than it needs"
        found.append(kept.compute())
    assert all(torch.equal(other, found[0]) for other in found)
    places = found[0][:, 0]
    assert len(places.unique()) == 400
    assert torch.equal(places, places.sort().values)
    per_tenth = torch.histc(places, 10, 0, 5000)  # uniform: 40 each, standard deviation 6
    assert per_tenth.min() > 40 - 4 * 6
    assert per_tenth.max() < 40 + 4 * 6
    other = RandomRows(400, seed=1)
    other.update(rows)
    assert not torch.equal(other.compute(), found[0])


def test_all_rows_are_kept_where_there_is_room():
    kept = RandomRows(400)
    for part in torch.arange(400.0)[:, None].split(150):
        kept.update(part)
    assert torch.equal(kept.compute()[:, 0], torch.arange(400.0))
    assert kept.rule == "all"


def test_every_output_is_independent_of_batches():
    images, extractor = random_images(6), create_extractor()
    together = extractor(images)
    assert [output.shape[1] for output in together] == [1280, 7 * 4 * 4, 1000]
    for index in range(6):
        for whole, single in zip(together, extractor(images[index : index + 1]), strict=True):
            assert (whole[index] - single[0]).abs().max() < 1e-5 * whole.abs().max()


def test_an_npz_is_read_row_by_row(tmp_path):
    images = random_images(7)
    stored = NpzSource(save_images(tmp_path / "stored.npz", images))
    np.savez_compressed(tmp_path / "packed.npz", arr_0=images.permute(0, 2, 3, 1).numpy(), arr_1=np.arange(7))
    for source in (stored, NpzSource(tmp_path / "packed.npz", 16)):
        assert len(source) == 7
        for index in (0, 1, 6, 2):
            assert torch.equal(source[index][0], images[index])
    with pytest.raises(ValueError, match="images of side 16, not 32"):
        NpzSource(tmp_path / "stored.npz", 32)
    (tmp_path / "broken.npz").write_bytes(b"PK nothing")
    with pytest.raises(ValueError, match=r"broken\.npz is not a readable"):
        NpzSource(tmp_path / "broken.npz")


def test_statistics_are_computed_once(tmp_path, monkeypatch):
    reference, cache = save_images(tmp_path / "real.npz", random_images(8)), tmp_path / "cache"
    first, about = reference_to_feature_set(reference, 16, "efficientnet_lite0", cache=cache)
    again, about_again = reference_to_feature_set(reference, 16, "efficientnet_lite0", cache=cache)
    assert (about["cached"], about_again["cached"]) == (False, True)
    assert torch.equal(first.features, again.features)
    for kind in ("pooled", "spatial"):
        for key in ("mu", "sigma", "root"):
            np.testing.assert_array_equal(getattr(first, kind)[key], getattr(again, kind)[key])
    assert again.num_images == 8
    assert not reference_to_feature_set(reference, 16, "efficientnet_lite0", num_images=5, cache=cache)[1]["cached"]
    save_images(tmp_path / "real.npz", random_images(8, seed=1))  # the same name and size, other images
    assert not reference_to_feature_set(reference, 16, "efficientnet_lite0", cache=cache)[1]["cached"]
    for file in cache.iterdir():
        file.write_bytes(file.read_bytes()[:100])
    assert not reference_to_feature_set(reference, 16, "efficientnet_lite0", cache=cache)[1]["cached"]
    assert reference_to_feature_set(reference, 16, "efficientnet_lite0", cache=cache)[1]["cached"]
    monkeypatch.setattr("eqvae.evaluation.inputs.PREPROCESSING_VERSION", 99)
    assert not reference_to_feature_set(reference, 16, "efficientnet_lite0", cache=cache)[1]["cached"]


def test_a_cache_that_cannot_be_written_costs_no_measurement(tmp_path):
    """A home that is read-only, or a full disk."""
    (tmp_path / "file").touch()
    samples, reference = random_images(8, seed=1), save_images(tmp_path / "real.npz", random_images(8))
    with pytest.warns(UserWarning, match="not kept, .*cannot be written .*: name another folder with --statistics-"):
        found = measure_generation(samples, reference, metrics=["fd"], statistics_cache=tmp_path / "file" / "cache")
    kept = measure_generation(samples, reference, metrics=["fd"], statistics_cache=tmp_path / "cache")
    assert found["fd_efficientnet_lite0"] == kept["fd_efficientnet_lite0"]


def test_an_npz_without_images_is_refused(tmp_path):
    np.savez(tmp_path / "labels.npz", arr_0=np.arange(5))
    with pytest.raises(ValueError, match=r"labels\.npz holds no images: expected arr_0, uint8 \[N, H, H, 3\], has"):
        measure_generation(str(tmp_path / "labels.npz"), "shapes:8:1")


def test_statistics_of_another_extractor_are_refused(tmp_path):
    np.savez(tmp_path / "statistics.npz", **statistics(8, 0))
    with pytest.raises(ValueError, match=r"no statistics for extractor efficientnet_lite0"):
        reference_to_feature_set(str(tmp_path / "statistics.npz"), 16, "efficientnet_lite0", cache=tmp_path)


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory) -> str:
    """Random weights in the layout of torch-fidelity's file."""
    file = tmp_path_factory.mktemp("inception") / "weights.pth"
    loaded = {}

    class Untrained(FeatureExtractorInceptionV3):
        def load_state_dict(self, weights):
            with torch.no_grad():
                for parameter in self.parameters():
                    if parameter.ndim > 1:
                        torch.nn.init.kaiming_normal_(parameter)
            loaded.update(self.state_dict())

    torch.manual_seed(0)
    torch.save({}, file)
    Untrained("untrained", ["2048"], feature_extractor_weights_path=file)
    torch.save(loaded, file)
    return str(file)


@pytest.mark.slow
def test_inception_and_adm_reference_files(inception_file, tmp_path, monkeypatch):
    monkeypatch.setattr("eqvae.fixed_batches.ROWS", 4)  # that batches are filled up to: each row takes 0.3 s
    extractor, images = create_extractor("inception_v3", inception_file), random_images(8)
    pooled, spatial, logits = extractor(images[:2])
    assert (pooled.shape, spatial.shape, logits.shape) == ((2, 2048), (2, 2023), (2, 1008))
    plain = FeatureExtractorInceptionV3(
        "own", ["2048", "logits_unbiased"], feature_extractor_weights_path=inception_file
    )
    middle = []
    plain.Mixed_6d.register_forward_hook(lambda block, inputs, output: middle.append(output))
    expected = plain(images[:2])
    torch.testing.assert_close((pooled, logits), expected)
    torch.testing.assert_close(spatial.view(2, 17, 17, 7), middle[0][:, :7].permute(0, 2, 3, 1))

    stored = statistics(2048, 2) | {f"{key}_s": value for key, value in statistics(2023, 5).items()}
    np.savez(tmp_path / "statistics.npz", **stored)
    both = save_images(tmp_path / "both.npz", images[:4], **stored)
    generated = images_to_feature_set([images[4:]], extractor)

    def reference(where):
        return reference_to_feature_set(where, 16, "inception_v3", inception_file, cache=tmp_path / "cache")

    alone, about = reference(str(tmp_path / "statistics.npz"))
    assert about["statistics"] == "stored"
    assert alone.features is None
    together, _ = reference(both)
    for real in (alone, together):
        np.testing.assert_array_equal(real.pooled["mu"], stored["mu"])
        np.testing.assert_array_equal(real.spatial["sigma"], stored["sigma_s"])
    computed, about = reference(save_images(tmp_path / "images.npz", images[:4]))
    assert about["statistics"] == "computed"
    assert torch.equal(computed.features, together.features)
    assert not np.allclose(computed.pooled["mu"], stored["mu"])
    metrics = feature_sets_to_generation_metrics(together, generated, "inception_v3")
    assert set(metrics) == {"fid", "sfid", "is", "is_std", "kid", "kid_std", "precision", "recall"}
    assert all(np.isfinite(value) for value in metrics.values())
    some = feature_sets_to_generation_metrics(together, generated, "inception_v3", ["sfd", "precision_recall"])
    assert some == {name: metrics[name] for name in ("sfid", "precision", "recall")}
