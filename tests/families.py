"""What each family of autoencoders can do, found out by doing it: `python -m tests.families` writes docs/families.md.

The smallest one of a class is built with random weights, compared with diffusers, cached, trained for one step, learned
by a generator for one step, exported and loaded again. Whatever goes wrong raises; what is left is a row of the table.
"""

import copy
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

import diffusers
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from dit.backbones import HaltonMaskGIT, SiT
from dit.data import LatentDataModule
from dit.module import GeneratorModule
from dit.objectives import Flow, MaskedTokens
from eqvae.autoencoders import Autoencoder, Normalization, load_autoencoder
from eqvae.autoencoders.registry import MODEL_CLASSES
from eqvae.data import ImageDataModule, ShapesSource
from eqvae.exports import estimate_normalization
from eqvae.latents import create_cache_writer, open_cache
from eqvae.losses import ReconstructionLoss
from eqvae.module import AutoencoderModule
from tests.eqvae.test_objective import fit, images

PAGE = Path(__file__).parents[1] / "docs" / "families.md"
BEGIN, END = "<!-- table: python -m tests.families -->", "<!-- end of table -->"
SIDE = 32
PARITY = 1e-5
SHAPES = ShapesSource(8, SIDE)


class StandIn(nn.Module):
    """In place of the foundation model of a RAE, whose package is not needed here: one convolution and a norm."""

    def __init__(self, encoder_type: str, hidden_size: int, patch_size: int, num_hidden_layers: int):
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, hidden_size, patch_size, patch_size), nn.LayerNorm(hidden_size)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.norm(self.patches(pixels).flatten(2).transpose(1, 2))


@contextmanager
def stand_ins():
    """Foundation models are `StandIn`, and packages for them are not asked for."""
    from diffusers.models.autoencoders import autoencoder_rae

    forward = {"dinov2": lambda model, pixels, *_, **__: model(pixels)}
    with (
        mock.patch.object(autoencoder_rae, "_build_encoder", StandIn),
        mock.patch.dict(autoencoder_rae._ENCODER_FORWARD_FNS, forward),
        mock.patch("importlib.util.find_spec", lambda name, *rest: name == "transformers" or find_spec(name, *rest)),
    ):
        yield


def is_installed(name: str) -> bool:
    """Whether the installed diffusers has the class; older ones lack some."""
    return hasattr(diffusers, name)


def tiny(name: str, **changes: Any) -> Autoencoder:
    """Frozen, with random weights; 4 channels of latents where the class lets one choose."""
    return load_autoencoder({"_class_name": name, **MODEL_CLASSES[name].tiny, **changes}).freeze()


# What a user of diffusers alone writes: images in [-1, 1] to latents, and back.
def _of_images(model: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    latents = model.encode(pixels).latent_dist.mode()
    return latents, model.decode(latents).sample


def _of_one_frame(model: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    latents = model.encode(pixels[:, :, None]).latent_dist.mode()
    return latents[:, :, 0], model.decode(latents).sample[:, :, 0]


def _of_frames_of_a_batch(model: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    latents = model.encode(pixels).latent_dist.mode()
    return latents, torch.cat([model.decode(each, num_frames=1).sample for each in latents.split(1)])


def _of_points(model: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    (latents,) = model.encode(pixels, return_dict=False)
    return latents, model.decode(latents).sample


def _of_codes(model: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    features = model.encode(pixels).latents
    return model.quantize(features)[0], model.decode(features).sample


def _of_patches(model: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """FLUX.2's pipeline: `view(b, c, h / 2, 2, w / 2, 2)`, both twos behind the channels."""
    latents = model.encode(pixels).latent_dist.mode()
    batch, channels, height, width = latents.shape
    cut = latents.view(batch, channels, height // 2, 2, width // 2, 2).permute(0, 1, 3, 5, 2, 4)
    return cut.reshape(batch, 4 * channels, height // 2, width // 2), model.decode(latents).sample


def _of_unit_range(model: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    latents = model.encode((pixels + 1) / 2).latent
    return latents, 2 * model.decode(latents).sample - 1


BY_HAND: dict[str, Callable[[Any, Tensor], tuple[Tensor, Tensor]]] = {
    "kl": _of_images,
    "codes": _of_codes,
    "points": _of_points,
    "features": _of_unit_range,
    "packed": _of_patches,
    "frame": _of_one_frame,
    "frame-points": _of_one_frame,
    "AutoencoderKLTemporalDecoder": _of_frames_of_a_batch,
}


@torch.no_grad()
def compare(autoencoder: Autoencoder, model: Any, pixels: Tensor) -> float:
    """Largest difference from diffusers, of latents and of images; shapes are those that are announced."""
    name = type(model).__name__
    by_hand = BY_HAND.get(name, BY_HAND[MODEL_CLASSES[name].interface])
    latents, decoded = by_hand(model, pixels)
    ours, std = autoencoder.latent_moments(pixels)
    assert ours.shape == std.shape == latents.shape == (len(pixels), *autoencoder.latent_shape(pixels)), name
    assert autoencoder.posterior(pixels).mean.shape[1:] == autoencoder.posterior_shape(pixels), name
    images = autoencoder.decode(ours)
    assert images.shape == decoded.shape == pixels.shape, name
    alone = autoencoder.decode(autoencoder.latent_moments(pixels[1:])[0])
    torch.testing.assert_close(alone, images[1:], rtol=PARITY, atol=PARITY)  # nothing is left of the batch before
    return max(float((ours - latents).abs().max()), float((images - decoded).abs().max()))


def reload(autoencoder: Autoencoder, folder: Path) -> tuple[Any, str]:
    """An export read by diffusers; and how far it has the normalization without `normalization.json`."""
    autoencoder.save_pretrained(folder)
    ours = load_autoencoder(folder)
    assert ours.fingerprint() == autoencoder.fingerprint()
    assert ours.normalization == autoencoder.normalization
    (folder / "normalization.json").unlink()
    carried, expected = load_autoencoder(folder), autoencoder.normalization
    model = getattr(diffusers, type(autoencoder.model).__name__).from_pretrained(folder).eval()
    if not carried.has_normalization:
        return model, "none: estimated"
    if carried.normalization.method != Normalization().method:
        return model, carried.normalization.method
    found = carried.normalization
    if len(found.scale) == 1:
        return model, "one scale"
    torch.testing.assert_close(torch.tensor(found.scale), torch.tensor(expected.scale))
    torch.testing.assert_close(torch.tensor(found.shift), torch.tensor(expected.shift), rtol=1e-5, atol=1e-6)
    return model, "per channel"


def normalizing(channels: int) -> Normalization:
    """Another number for each channel."""
    steps = [each / channels for each in range(channels)]
    return Normalization(tuple(each - 0.5 for each in steps), tuple(0.5 + each for each in steps))


@torch.no_grad()
def is_clamped(autoencoder: Autoencoder) -> bool:
    """Whether images never leave [-1, 1], however large the last layer's weights are."""
    loud = copy.deepcopy(autoencoder)
    loud.last_layer.mul_(1e4)
    return float(loud.decode(loud.latent_moments(images(2))[0]).abs().max()) <= 1


@torch.no_grad()
def tiles(autoencoder: Autoencoder) -> str:
    """Whether large images are encoded in tiles: to latents of the same shape, other values; small ones as before."""
    tiled, side = copy.deepcopy(autoencoder), max(SIDE // 2, 4 * autoencoder.posterior_factor)
    if not (MODEL_CLASSES[type(autoencoder.model).__name__].tiles and hasattr(autoencoder.model, "use_tiling")):
        with pytest.raises(ValueError, match="set it to null"):
            tiled.encode_in_tiles(side)
        return "refused"
    tiled.encode_in_tiles(side)
    pixels = images(1, 2 * side)
    whole, parts = (each.latent_moments(pixels)[0] for each in (autoencoder, tiled))
    assert whole.shape == parts.shape
    small = images(1, side)
    torch.testing.assert_close(tiled.latent_moments(small)[0], autoencoder.latent_moments(small)[0])
    assert not torch.equal(whole, parts), "its option is without effect"
    return "yes"


def cache(autoencoder: Autoencoder, folder: Path) -> str:
    """Write one, and say what it keeps."""
    data = ImageDataModule(SHAPES, evaluation_batch_size=4)
    if not autoencoder.has_normalization:
        autoencoder.normalization = estimate_normalization(autoencoder, data, 8)
    writer = create_cache_writer(folder, autoencoder, data.description())
    for batch in data.predict_dataloader():
        writer.add(batch)
    writer.finish()
    written = open_cache(folder)
    assert written.spec.shape[-1] == SIDE // autoencoder.downsampling_factor
    return "tokens" if written.kind == "tokens" else "moments" if written.has_moments else "samples"


def train_autoencoder(name: str) -> str:
    """One step of stage 1, or why there is none."""
    config, settings = {"_class_name": name, **MODEL_CLASSES[name].tiny}, {"reconstruction": PIXELS}
    trained = "decoder" if MODEL_CLASSES[name].frozen_encoder else "all"
    if trained == "decoder":
        with pytest.raises(ValueError, match=r"set model\.init_args\.trainable to decoder"):
            AutoencoderModule(config, **settings)
    module = AutoencoderModule(config, trainable=trained, **settings)
    before = {key: value.clone() for key, value in module.autoencoder.model.named_parameters()}
    fit(module, steps=1, limit_val_batches=0)
    module.evaluation.update(module.autoencoder.eval(), images())
    assert set(module.evaluation.compute()) > {"psnr", "equivariance/latent/rotation 90"}
    moved = {key for key, value in module.autoencoder.model.named_parameters() if not torch.equal(value, before[key])}
    assert any(key.startswith("decoder") for key in moved), name
    assert any(key.startswith("encoder") for key in moved) == (trained == "all"), name
    return trained


PIXELS = ReconstructionLoss(perceptual="none")


def train_generator(folder: Path) -> str:
    """One step of stage 2 on a cache."""
    data = LatentDataModule(str(folder), global_batch_size=4)
    size = data.spec.backbone_config | {"num_classes": data.num_classes, "hidden_size": 16, "depth": 1, "num_heads": 2}
    if data.spec.kind == "tokens":
        module = GeneratorModule(HaltonMaskGIT(**size), MaskedTokens())
    else:
        module = GeneratorModule(SiT(patch_size=1, **size), Flow())
    keys = torch.arange(4)
    batch = data.cache.get_batch(keys, keys) | {"key": keys}
    optimizer = torch.optim.AdamW(module.parameters(), 1e-3)
    first = module.loss_terms(batch)["loss"].mean()
    first.backward()
    optimizer.step()
    assert module.loss_terms(batch)["loss"].mean() < first
    return type(module.backbone).__name__


def read_file(autoencoder: Autoencoder, folder: Path) -> str:
    """One file in diffusers' layout with the class's config."""
    name, path = type(autoencoder.model).__name__, folder / "weights.safetensors"
    save_file({key: value.contiguous() for key, value in autoencoder.model.state_dict().items()}, path)
    config = {"_class_name": name, **MODEL_CLASSES[name].tiny}
    assert load_autoencoder(path, config=config).fingerprint() == autoencoder.fingerprint()
    return "diffusers"


def examine(name: str, folder: Path) -> dict[str, str]:
    """A row of the table: every cell is what came out."""
    autoencoder, known = tiny(name), MODEL_CLASSES[name]
    kept = cache(autoencoder, folder / "cache")
    autoencoder.normalization = normalizing(autoencoder.latent_channels)
    model, normalization = reload(autoencoder, folder / "export")
    sizes = [(SIDE, SIDE)] if known.interface == "features" else [(SIDE, SIDE), (SIDE, 3 * SIDE // 2)]
    difference = max(compare(autoencoder, model, images(2, 64)[..., :height, :width]) for height, width in sizes)
    assert difference <= PARITY, (name, difference)
    return {
        "class": f"`{name}`",
        "weights": f"`{known.example}`",
        "interface": type(autoencoder).__name__,
        "normalization": normalization,
        "parity": f"<= {PARITY:g}",  # 0 for most, but on which processor?
        "non-square": "yes" if len(sizes) > 1 else "no",
        "tiles": tiles(autoencoder),
        "cache": kept,
        "trained": train_autoencoder(name),
        "images": "clamped" if is_clamped(autoencoder) else "free",
        "generator": train_generator(folder / "cache"),
        "one file": read_file(autoencoder, folder),
    }


def table(rows: list[dict[str, str]]) -> str:
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def rows_of_page() -> dict[str, str]:
    """Lines of the page's table, by class."""
    inside = PAGE.read_text().split(BEGIN)[1].split(END)[0].strip().splitlines()
    return {line.split("`")[1]: line for line in inside[2:]}


def main() -> None:
    rows = []
    with stand_ins():
        for name in MODEL_CLASSES:
            with tempfile.TemporaryDirectory() as folder:
                rows.append(examine(name, Path(folder)))
                print(rows[-1])
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{table(rows)}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
