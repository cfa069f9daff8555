"""Bad sweep files: refused before anything runs, in one line that names the file and the line in it."""

import re
from pathlib import Path

import pytest

from twostage import load_sweep

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "configs/sweeps/tiny-shapes.yaml"


def lines_with(change, text=None):
    """The demo's file with one line replaced, and the number of that line."""
    old, new = change
    text = text or DEMO.read_text()
    assert old in text
    return text.replace(old, new, 1), text[: text.index(old)].count("\n") + 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("title:", "tittle:"), "'tittle' not in 'Sweep'. Did you mean: 'title'?"),
        (
            ("    label: Ordinary loss", "    labell: Ordinary loss"),
            "'labell' not in 'ArmSettings'. Did you mean: 'label'?",
        ),
        (("config: tiny-sit", "config: configs/dit/missing.yaml"), "no file at configs/dit/missing.yaml"),
        (
            ("config: tiny-sit", "config: tiny-sitt"),
            "no packaged config is called tiny-sitt: did you mean tiny-sit or ",
        ),
        (("config: tiny-sit", "config: elsewhere/tiny-sit.yaml"), "the packaged config is called tiny-sit, without a"),
        (("  equivariant:", "  start:"), "autoencoders.start: is the name of the common start in results"),
        (("seeds: [0, 1]", "until_decided: true\nseeds: [0, 1]"), "until_decided: needs 3 to 20 seeds, there are 2"),
        (
            ("seeds: [0, 1]", "racing: true\nseeds: [0, 1]"),
            "racing: stops arms at the looks of until_decided: set that",
        ),
        (
            ("seeds: [0, 1]", "smallest_speed_up: 1.1\nseeds: [0, 1]"),
            "smallest_speed_up: is a rule of racing: set that to true, or leave this out",
        ),
        (
            ("seeds: [0, 1]", "smallest_speed_up: 0.9\nuntil_decided: true\nracing: true\nseeds: [0, 1, 2]"),
            "smallest_speed_up: must be at least 1 and finite, got 0.9",
        ),
        (("seeds: [0, 1]", "racing: yes please\nseeds: [0, 1]"), "Value 'yes please' is not a valid bool"),
        (("  control:\n    label", "  a/b:\n    label"), "autoencoders.a/b: must be one folder name"),
        (
            ("seeds: [0, 1]", "seeds: [0, -1]"),
            "seeds[1]: must be at least 0 and at most 4.29497e+09 and finite, got -1",
        ),
        (("seeds: [0, 1]", "seeds: [0, [1]]"), "seeds[1]: must be a whole number, got [1]"),
        (("  grid_images: 40", "  grid_images: 0"), "evaluation.grid_images: must be at least 1 and finite, got 0"),
        (
            ("sampler: euler,", "guidance_scale: .nan,"),
            "evaluation.sampling: guidance_scale must be at least 0 and finite, got nan",
        ),
        (("num_inference_steps: 10", "num_inference_steps: 0"), "sampling: num_inference_steps must be at least 1"),
        (("seeds: [0, 1]", "seeds: [zero]"), "could not be converted to Integer"),
        (("at_steps: [25, 35, 50, 71, 100, 141, 200]", "at_steps: [100, 50]"), "must ascend"),
        (("at_steps: [25, 35, 50, 71, 100, 141, 200]", "at_steps: []"), "must ascend"),
        (("  autoencoder: shapes-f4c8", "  autoencoder: tests"), "the folder tests cannot be read"),
        (("num_workers: 2", "num_workers: -1"), "must not be negative"),
        (("name: tiny-shapes", "name: ../up"), "must be one folder name"),
        (
            ("sampler: euler,", "sampler: ddim,"),
            "evaluation.sampling: sampler 'ddim' does not fit a Flow model: use one of euler",
        ),
        (("sampler: euler,", "seed: 3,"), "evaluation.sampling.seed: is each of seeds in turn: leave it out"),
        (("sampler: euler,", "uint8_rule: floor,"), "Invalid value 'floor', expected one of ['round', 'truncate']"),
        (("sampler: euler,", "options: {top_k: 3},"), "sampler 'heun' takes no top_k: it takes timestep_shift"),
        (("sampler: euler,", "guidance_scale: -1,"), "evaluation.sampling: guidance_scale must be at least 0"),
        (("  sampling:", "  guidance_scale: 2\n  sampling:"), "it stands under `sampling` beside it"),
        (
            (
                "    config: tiny-sit",
                "    sampling: {sampler: halton}\n    config: tiny-sit",
            ),
            "generators.sit.sampling: sampler 'halton' does not fit a Flow model",
        ),
        (
            (
                "    config: tiny-sit",
                "    overrides: {trainer.devices: 3, trainer.num_nodes: 2}\n    config: tiny-sit",
            ),
            "generators.sit.overrides: data.init_args.global_batch_size 32 does not divide by 6 devices x 1",
        ),
        (
            ("overrides: {model.init_args.transforms: null}", "overrides: {model.init_args.accumulate_batches: 5}"),
            "autoencoders.control.overrides: data.init_args.global_batch_size 16 does not divide by 1 devices x 5",
        ),
        (("  grid_images: 40", "  metrics: [kid]"), "evaluation.metrics: lacks fd, which the speed-up is computed on"),
    ],
)
def test_a_bad_file_is_refused_with_its_line(tmp_path, change, message):
    text, line = lines_with(change)
    broken = tmp_path / "broken.yaml"
    broken.write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        load_sweep(broken, [])
    assert f"sweep file {broken}, line {line}: " in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("added", "message"),
    [
        (
            "overrides: {model.init_args.backbone.init_args.class_dropout_prob: 0}",
            "line 29: evaluation.grid_guidance_scale: is 2.5, but generators.sit never learns without labels: give 1",
        ),
        (
            "sampling: {sampler: halton, num_inference_steps: 65}",
            "line 22: generators.sit.sampling: num_inference_steps 65 is more than the 64 tokens",
        ),
    ],
)
def test_what_a_generator_cannot_sample_is_refused_before_it_is_trained(tmp_path, added, message):
    config = "tiny-maskgit" if "halton" in added else "tiny-sit"
    text, _ = lines_with(("    config: tiny-sit", f"    config: {config}\n    {added}"))
    broken = tmp_path / "broken.yaml"
    broken.write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)):
        load_sweep(broken, [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [1\ntitle: x\n", "line 2: did not find expected"),
        ("name: x", "line 1: lacks"),
        ("name: &a [*a]\n", "line 1: an anchor contains itself"),
        ("name: ${title}\ntitle: ${name}\n", "line"),
        ("- a\n- b\n", "holds no keys with values"),
        ("", "holds no keys with values"),
        ("name: x\ntitle: a\nname: y\n", "line 3: the key name is given twice"),
        ("name: " + "[" * 60 + "]" * 60, "line 1: values nest deeper than 50 levels"),
        ("name: x\nstart: [1]\n", "line 2: start: Merge error: list is not a subclass of Start"),
        ("name: x\n\x03", "is no YAML"),
    ],
)
def test_unreadable_and_cyclic_files_are_refused(tmp_path, text, message):
    broken = tmp_path / "broken.yaml"
    broken.write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        load_sweep(broken, [])
    assert "broken.yaml" in str(error.value)
    assert "\n" not in str(error.value)


def test_unknown_keys_of_configs_are_refused_before_anything_runs(tmp_path):
    text, line = lines_with(("  equivariant:", "  equivariant:\n    overrides: {model.init_args.transfroms: null}"))
    broken = tmp_path / "broken.yaml"
    broken.write_text(text)
    assert load_sweep(broken, [])
    with pytest.raises(ValueError, match=rf"line {line}: autoencoders\.equivariant: .*transfroms"):
        load_sweep(broken, [], to_run=True)


def test_what_a_sweep_needs_is_missed_when_it_is_to_run():
    with pytest.raises(ValueError, match=r"line \d+: generator_images: .*no readable folder at data/imagenet/train"):
        load_sweep(ROOT / "configs/sweeps/imagenet-dit-b.yaml", [], to_run=True)
    with pytest.raises(ValueError, match=r"line 8: start\.autoencoder: nothing at weights/vqgan"):
        load_sweep(ROOT / "configs/sweeps/imagenet-maskgit.yaml", [], to_run=True)
    for source in ("./nowhere", "runs/nowhere", "no-such-name", "nowhere.safetensors"):
        with pytest.raises(ValueError, match=f"nothing at {source}"):
            load_sweep(DEMO, [f"start.autoencoder={source}"], to_run=True)


def test_a_folder_that_cannot_be_read_is_refused_in_any_case(tmp_path):
    with pytest.raises(ValueError, match=r"cannot be read: config\.json"):
        load_sweep(DEMO, [f"start.autoencoder={tmp_path}"])
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"has no \.safetensors weights"):
        load_sweep(DEMO, [f"start.autoencoder={tmp_path}"])
