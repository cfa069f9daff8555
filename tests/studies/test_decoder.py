"""The study of decoders: what is trained is what its page says, and its tables are those of its lines."""

import pytest

from studies import decoder
from studies.decoder import METRICS, TABLE, to_markdown, values
from studies.start_search import candidate_config, read_table
from tests.eqvae.tiny import tiny_autoencoder

SEEDS = 3


def line(factor: str, seed: int, **shift: float) -> dict:
    """Made-up numbers of one autoencoder; seeds differ a little."""
    base = {"rFD": 100.0, "PSNR": 25.0, "SSIM": 0.8, "perceptual": 0.5}
    noise = {"mse": [1, 0, -1], "longer": [0, 1, -1], "ema": [1, -1, 0]}.get(factor, [0, 0, 0])[seed] / 1000
    measured = {name: [value + shift.get(name, 0) + noise, 0.1] for name, value in base.items()}
    measured["rFD"][1] = None
    return {"name": f"{factor}-{seed}", "factor": factor, "measured": {"photographs": measured}}


def lines(**of_mse: float) -> list[dict]:
    trained = [line("ema", seed, PSNR=seed) for seed in range(SEEDS)]
    trained += [line("longer", seed, PSNR=seed) for seed in range(SEEDS)]
    return [line("start", 0), *trained, *(line("mse", seed, **of_mse) for seed in range(SEEDS))]


def test_each_seed_goes_on_from_its_own_decoder_with_one_loss_or_the_other(tmp_path):
    table = read_table(str(TABLE))
    configs = {each["name"]: candidate_config(table, each, tmp_path) for each in table["candidates"]}
    assert len(configs) == 3 * SEEDS
    for name, config in configs.items():
        kind, seed = name.split("-")
        model, start = config.model.init_args, f"{tmp_path}/ema-{seed}/autoencoder"
        assert model.autoencoder == (table["start"] if kind == "ema" else start)
        assert (model.trainable, model.transforms) == ("decoder", None)
        loss = (model.reconstruction.pixel, model.reconstruction.perceptual_weight)
        assert loss == (("mse", 0.1) if kind == "mse" else ("l1", 1.0))
        assert config.trainer.max_steps == (300 if kind == "ema" else 280)
        order = configs[f"longer-{seed}"] if kind == "mse" else config
        assert (model.seed, config.data.init_args.seed) == (order.model.init_args.seed, order.data.init_args.seed)


def test_differences_are_called_by_their_interval_and_the_sign_of_the_card():
    table = to_markdown(lines(rFD=5, PSNR=30, SSIM=-0.1, perceptual=0))
    assert "| photographs | start | 100 | 25.00 ± 0.10 | 0.800 ± 0.100 | 0.500 ± 0.100 |" in table
    row = next(row for row in table.splitlines() if "mse - longer" in row)
    found = [cell.rsplit(", ", 1)[1] for cell in row.strip("| ").split(" | ")[2:]]
    assert found == ["as the card", "as the card", "contrary", "neither"]
    assert "+5 (+5 to +5)" in row
    of_ema = next(row for row in table.splitlines() if "ema - start" in row)
    assert "+1.00 (-1.48 to +3.48), neither" in of_ema
    assert values(lines(), "start", "photographs", "PSNR") == [25.0] * SEEDS


def test_both_sets_of_images_are_measured(tmp_path):
    tiny_autoencoder(4).save_pretrained(tmp_path / "autoencoder")
    table = {"measured": [{"name": side, "data": "scenes:6", "image_size": side, "num_images": 4} for side in (32, 64)]}
    with pytest.warns(UserWarning, match="biased"):
        found = decoder.measure_reconstructions(table, {}, tmp_path)["measured"]
    assert list(found) == [32, 64]
    for measured in found.values():
        assert set(measured) == set(METRICS.values())
        assert measured["rFD"][1] is None
        assert all(spread > 0 for name, (_, spread) in measured.items() if name != "rFD")
