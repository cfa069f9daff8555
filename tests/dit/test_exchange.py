"""An exported generator runs in diffusers' own pipeline and gives the images of our sampler."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, DiTPipeline

from dit.backbones import DiT, SiT
from dit.exchange import export_diffusers
from dit.generation import SamplingSettings, generate_latents
from dit.samplers import image_noise
from dit.samplers.ddpm import TIMESTEP_SPACINGS
from eqvae.autoencoders import Normalization
from tests.dit.tiny import save_generator, tiny_generator
from tests.eqvae.tiny import tiny_autoencoder
from tests.fixtures import relative_error

LABELS = torch.tensor([0, 3, 4])
NORMALIZATIONS = {
    "one scale": Normalization((0.0,), (0.5,)),
    "per channel": Normalization((0.1, -0.2, 0.3, 0.0), (0.5, 0.8, 1.2, 0.3)),
}


@pytest.fixture(params=list(NORMALIZATIONS))
def trained(request):
    autoencoder = tiny_autoencoder()
    autoencoder.normalization = NORMALIZATIONS[request.param]
    return tiny_generator(DiT, autoencoder), autoencoder


def run_pipeline(folder: Path, monkeypatch, noise: torch.Tensor, **options) -> torch.Tensor:
    """Images [B, 3, H, W] in [0, 1] that a fresh pipeline makes of this noise."""
    monkeypatch.setattr("diffusers.pipelines.dit.pipeline_dit.randn_tensor", lambda **_: noise)
    pipeline = DiTPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(LABELS.tolist(), output_type="np", **options).images  # "pt" is [B, H, W, 3] in older releases
    return torch.from_numpy(images).permute(0, 3, 1, 2)


@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
@pytest.mark.parametrize("num_inference_steps", [10, 50])
def test_the_pipeline_gives_our_images(trained, tmp_path, monkeypatch, guidance_scale, num_inference_steps):
    generator, autoencoder = trained
    export_diffusers(generator, autoencoder, tmp_path / "pipeline", num_inference_steps=50)
    require_our_images(generator, autoencoder, tmp_path / "pipeline", monkeypatch, guidance_scale, num_inference_steps)
    assert json.loads((tmp_path / "pipeline/scheduler/scheduler_config.json").read_text())["trained_betas"] is None


@pytest.mark.parametrize("num_inference_steps", [100, 25])
def test_a_hundred_steps_are_spread_out(tmp_path, monkeypatch, num_inference_steps):
    """The pipeline's timesteps are others, its noise levels and what the network knows of the time are not."""
    autoencoder = tiny_autoencoder()
    generator = tiny_generator(DiT, autoencoder)
    export_diffusers(generator, autoencoder, tmp_path / "pipeline", num_inference_steps=100)
    scheduler = DDIMScheduler.from_pretrained(tmp_path / "pipeline/scheduler")
    scheduler.set_timesteps(100)
    stretch = scheduler.config["num_train_timesteps"] // 1000
    assert stretch > 1
    assert scheduler.timesteps.tolist() == [10 * stretch * step for step in reversed(range(100))]
    torch.testing.assert_close(
        scheduler.alphas_cumprod[scheduler.timesteps].double(),
        generator.objective.alphas_cumprod[[10 * step for step in reversed(range(100))]],
        rtol=1e-4,  # a product of 100 factors in float32
        atol=0,
    )
    require_our_images(generator, autoencoder, tmp_path / "pipeline", monkeypatch, 2.0, num_inference_steps)


@pytest.mark.parametrize("num_inference_steps", [48, 24, 16])
def test_divisors_are_exact_where_the_steps_do_not_divide_the_timesteps(
    trained, tmp_path, monkeypatch, num_inference_steps
):
    """1000 // 24 is 41, and not twice 1000 // 48."""
    generator, autoencoder = trained
    export_diffusers(generator, autoencoder, tmp_path / "pipeline", num_inference_steps=48)
    folder, steps = tmp_path / "pipeline", num_inference_steps
    timesteps = [20 * (48 // steps) * step for step in range(steps)]
    monkeypatch.setitem(TIMESTEP_SPACINGS, "leading", lambda *_: timesteps)
    require_our_images(generator, autoencoder, folder, monkeypatch, 1.0, steps)


@pytest.mark.parametrize("num_inference_steps", [250, 40])
def test_with_diffusers_frequencies_any_number_of_steps_is_exact(tmp_path, monkeypatch, num_inference_steps):
    autoencoder = tiny_autoencoder()
    generator = tiny_generator(DiT, autoencoder, frequency_divisor=127)
    export_diffusers(generator, autoencoder, tmp_path / "pipeline", num_inference_steps=1000)
    assert "any number, for which the time embedding is exact" in (tmp_path / "pipeline/README.md").read_text()
    require_our_images(generator, autoencoder, tmp_path / "pipeline", monkeypatch, 1.0, num_inference_steps)


def require_our_images(generator, autoencoder, folder, monkeypatch, guidance_scale, num_inference_steps):
    """A folder's pipeline makes of the same noise what `ddim` makes here."""
    indices = torch.arange(len(LABELS))
    settings = SamplingSettings("ddim", num_inference_steps, guidance_scale, options={"timestep_spacing": "leading"})
    latents = generate_latents(generator, indices, LABELS, settings)
    ours = autoencoder.decode(generator.spec.normalization.denormalize(latents)) / 2 + 0.5
    noise = image_noise(indices, (4, 4, 4), seed=0)
    options = {"guidance_scale": guidance_scale, "num_inference_steps": num_inference_steps}
    theirs = run_pipeline(folder, monkeypatch, noise, **options)
    assert ours.std() > 0.01
    assert relative_error(theirs, ours.clamp(0, 1)) < 1e-4


def test_the_card_s_example_asks_for_labels_that_the_generator_knows(tmp_path):
    autoencoder = tiny_autoencoder()
    export_diffusers(tiny_generator(DiT, autoencoder, num_classes=1), autoencoder, tmp_path / "pipeline")
    card = (tmp_path / "pipeline/README.md").read_text()
    assert "for 1 class." in card
    assert "pipeline([0], " in card


def test_the_exported_autoencoder_encodes_to_normalized_latents(tmp_path):
    autoencoder = tiny_autoencoder()
    autoencoder.normalization = NORMALIZATIONS["per channel"]
    export_diffusers(tiny_generator(DiT, autoencoder), autoencoder, tmp_path / "pipeline")
    exported = DiTPipeline.from_pretrained(tmp_path / "pipeline").vae
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        ours, theirs = autoencoder.encode(images), exported.encode(images).latent_dist
    assert relative_error(theirs.mean, autoencoder.normalization.normalize(ours.mean)) < 1e-5
    scale = torch.tensor(autoencoder.normalization.scale)[:, None, None]
    assert relative_error(theirs.std, ours.std * scale) < 1e-5


def test_what_the_pipeline_cannot_run_is_refused(tmp_path):
    autoencoder = tiny_autoencoder()
    diffusion = tiny_generator(DiT, autoencoder)
    cases = {
        "a SiT, DiTPipeline runs DiT alone": tiny_generator(SiT, autoencoder),
        "a flow model": dataclasses.replace(diffusion, objective=tiny_generator(SiT, autoencoder).objective),
        "without a null label": tiny_generator(DiT, autoencoder, class_dropout_prob=0.0),
        "more than the 1000 classes": tiny_generator(DiT, autoencoder, num_classes=1001),
        "mlp_ratio": tiny_generator(DiT, autoencoder, mlp_ratio=2.0),
        "rms_norm or swiglu or rotary or qk_norm": tiny_generator(DiT, autoencoder, qk_norm=True),
    }
    for message, generator in cases.items():
        with pytest.raises(ValueError, match=message):
            export_diffusers(generator, autoencoder, tmp_path / "pipeline")
    with pytest.raises(ValueError, match=r"250: diffusers' time embedding cannot follow .* frequency_divisor 127"):
        export_diffusers(diffusion, autoencoder, tmp_path / "pipeline", num_inference_steps=250)
    assert not list(tmp_path.iterdir())
    (tmp_path / "pipeline").mkdir()
    with pytest.raises(ValueError, match="exists"):
        export_diffusers(diffusion, autoencoder, tmp_path / "pipeline")


def test_the_documented_snippet_runs(tmp_path, monkeypatch):
    (snippet,) = re.findall(r"```python\n(.*?export_diffusers.*?)```", Path("docs/stage2.md").read_text(), re.DOTALL)
    autoencoder, checkpoint = tiny_autoencoder(), tmp_path / "runs/tiny-dit/checkpoints/last.ckpt"
    autoencoder.save_pretrained(tmp_path / "autoencoder")
    checkpoint.parent.mkdir(parents=True)
    save_generator(tiny_generator(DiT, autoencoder), str(tmp_path / "autoencoder"), checkpoint)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(snippet, names)
    assert len(names["images"]) == 3
    assert names["images"][0].size == (16, 16)
