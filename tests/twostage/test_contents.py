"""Files and folders that a sweep names: what counts of them in the parts' addresses, and ready autoencoders."""

from pathlib import Path

import pytest
from safetensors.torch import save_file

from eqvae.autoencoders import load_autoencoder
from tests.eqvae.test_autoencoders_families import narrow_families  # noqa: F401
from twostage import load_sweep, plan
from twostage.parts import estimate, run_node
from twostage.parts.contents import forget_listings, with_contents

DEMO = Path(__file__).parents[2] / "configs/sweeps/tiny-shapes.yaml"


def addresses(overrides):
    return {node.name: node.address for node in plan(load_sweep(DEMO, overrides)).nodes}


def moved(before, after):
    """Names of the parts whose address is another."""
    return {name for name in before if before[name] != after[name]}


@pytest.mark.parametrize(
    ("key", "name", "kinds"),
    [
        ("autoencoders.equivariant.overrides", "model.init_args.adversarial.init_args.critic_weights", "equivariant"),
        ("autoencoders.equivariant.overrides", "model.init_args.optimizer_state", "equivariant"),
        (
            "autoencoders.equivariant.overrides",
            "model.init_args.losses.init_args.perceptual_weights_file",
            "equivariant",
        ),
        ("generators.sit.overrides", "model.init_args.alignment.init_args.encoder_weights", "generators"),
    ],
)
def test_a_file_that_a_config_names_counts_by_what_it_holds(tmp_path, key, name, kinds):
    """Wherever it lies; a changed one is other work for what depends on it, and for nothing else."""
    first, second = tmp_path / "weights.pt", tmp_path / "elsewhere.pt"

    def of(path):
        return addresses([f"{key}={{{name}: {path}}}"])

    first.write_bytes(b"1")
    before = of(first)
    second.write_bytes(b"1")
    assert of(second) == before
    first.write_bytes(b"2")
    changed = moved(before, of(first))
    assert changed
    assert all(kinds in part or "metrics" in part for part in changed)
    assert not any(part.startswith(("start", "reference")) for part in changed)


def test_a_file_without_an_ending_counts_by_what_it_holds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (str(tmp_path / "weights"), "weights"):
        (tmp_path / "weights").write_bytes(b"1")
        before = addresses([f"start.autoencoder={name}"])
        (tmp_path / "weights").write_bytes(b"2")
        assert moved(before, addresses([f"start.autoencoder={name}"])) == before.keys() - {"reference/images"}, name
    of_features = ["evaluation.extractor=inception_v3", f"evaluation.extractor_weights={tmp_path / 'weights'}"]
    before = addresses(of_features)
    (tmp_path / "weights").write_bytes(b"3")
    assert "reference/images" in moved(before, addresses(of_features))


def test_a_rule_for_labels_is_no_path_whatever_lies_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = addresses(["evaluation.labels=data"])
    (tmp_path / "data").mkdir()
    (tmp_path / "data/1.txt").write_text("1")
    assert not moved(before, addresses(["evaluation.labels=data"]))


def test_a_class_by_its_short_name_is_refused():
    """Its sources would not count: an edit of them would find the old results."""
    for words in (
        "autoencoders.equivariant.overrides={model.init_args.regularizers: [{class_path: ScaleEquivariance}]}",
        "generators.sit.overrides={model.init_args.backbone.class_path: SiT}",
    ):
        name = words.rstrip("]}").split()[-1]
        with pytest.raises(ValueError, match=rf"class_path {name}: give its whole path") as error:
            load_sweep(DEMO, [words])
        assert words.split(".overrides")[0] in str(error.value)


def test_a_single_file_as_start_counts_by_what_it_holds_and_by_its_family(tmp_path):
    path = tmp_path / "kl.ckpt"
    path.write_bytes(b"1")
    before = addresses([f"start.autoencoder={path}"])
    path.write_bytes(b"2")
    assert moved(before, addresses([f"start.autoencoder={path}"])) == before.keys() - {"reference/images"}
    families = [addresses([f"start.autoencoder={{source: {path}, family: {family}}}"]) for family in ("sd", "sdxl")]
    assert moved(*families) == before.keys() - {"reference/images"}


@pytest.mark.parametrize("source", ["folder", "parquet", "tar"])
def test_a_data_set_counts_by_place_names_and_sizes(tmp_path, source):
    """Its files are too large to be read for that; a listing of them is kept for a plan alone."""
    suffix = {"folder": "png", "parquet": "parquet", "tar": "tar"}[source]
    for folder in ("a", "b"):
        (tmp_path / folder / "class").mkdir(parents=True)
        (tmp_path / folder / "class" / f"1.{suffix}").write_bytes(b"1")

    def of(folder):
        where = (
            {"root": tmp_path / folder} if source == "folder" else {"files": f"{tmp_path / folder}/class/*.{suffix}"}
        )
        settings = ", ".join(f"{key}: '{value}'" for key, value in where.items())
        arm = f"{{data.init_args.train: {{class_path: eqvae.data.FolderSource, init_args: {{{settings}}}}}}}"
        return addresses([f"autoencoders.equivariant.overrides={arm}"])

    before = of("a")
    assert of("a") == before
    assert moved(before, of("b")), "equal names and sizes are no proof of equal images"
    (tmp_path / "a" / "class" / f"2.{suffix}").write_bytes(b"1")
    added = moved(before, of("a"))
    assert {"equivariant/seed0/autoencoder", "equivariant/seed0/latents"} <= added
    assert not any(name.startswith("control") for name in added)
    (tmp_path / "a" / "class" / f"2.{suffix}").unlink()
    (tmp_path / "a" / "class" / f"1.{suffix}").write_bytes(b"123")
    assert moved(before, of("a")) == added


@pytest.mark.parametrize("key", ["path", "data_dir", "data_files", "files"])
def test_files_of_hub_sources_and_addresses_count_by_names_and_sizes(tmp_path, key):
    (tmp_path / "set").mkdir()
    file = tmp_path / "set" / "1.tar"
    where = {"data_files": [f"{tmp_path}/**/*.tar"], "files": f"file://{tmp_path}/set/{{1..2}}.tar"}

    def content():
        forget_listings()
        return with_contents({"image_size": 16, key: where.get(key, str(file.parent))})

    file.write_bytes(b"1")
    before = content()
    file.write_bytes(b"12")
    assert content() != before
    assert with_contents({"path": str(file.parent)}) == {"path": str(file.parent)}, "of something else"


def test_what_a_trainer_writes_counts_by_its_name(tmp_path):
    (tmp_path / "log.txt").write_bytes(b"1")
    overrides = [f"generators.sit.overrides={{trainer.profiler: {tmp_path / 'log.txt'}}}"]
    before = addresses(overrides)
    (tmp_path / "log.txt").write_bytes(b"2")
    assert addresses(overrides) == before


def test_a_large_file_is_hashed_once(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr("twostage.parts.contents.sha256_of_file", lambda path: read.append(path) or "a" * 64)
    path = tmp_path / "weights.pt"
    path.write_bytes(b"1")
    for _ in range(2):
        addresses([f"generators.sit.overrides={{model.init_args.alignment.init_args.encoder_weights: {path}}}"])
    assert read.count(path) == 1


@pytest.mark.usefixtures("narrow_families")
def test_a_single_file_of_two_families_is_refused_unless_one_is_given(tmp_path):
    """As by the other commands, before anything runs."""
    path = tmp_path / "vae.safetensors"
    save_file(load_autoencoder({"family": "sdxl"}).model.state_dict(), path)
    for key in ("start.autoencoder", "autoencoders.equivariant.autoencoder"):
        with pytest.raises(ValueError, match=rf"command line, {key}: .* may be sd .* or sdxl"):
            load_sweep(DEMO, [f"{key}={path}"], to_run=True)
        for given in ("family: sdxl", "config: {family: sdxl}"):
            sweep = load_sweep(DEMO, [f"{key}={{source: {path}, {given}}}"], to_run=True)
    ready = plan(sweep).branch("equivariant", 0).autoencoder
    run_node(ready.kind, tmp_path / "node", ready.settings, {}, lambda *report: None)
    assert load_autoencoder(tmp_path / "node/autoencoder").normalization.scale == (0.13025,)
    assert estimate(ready, None).num_bytes == path.stat().st_size


def test_an_autoencoder_that_is_no_name_and_no_mapping_of_a_source_is_refused(tmp_path):
    for source, message in (
        ("[1]", "must be a folder, file, packaged name or hub id, or a mapping of source and config, family"),
        ("{family: sd}", "must be a folder"),
        ("{source: shapes-f4c8, famly: sd}", "must be a folder"),
    ):
        for key in ("start.autoencoder", "autoencoders.equivariant.autoencoder"):
            with pytest.raises(ValueError, match=f"command line, {key}: {key}: {message}") as error:
                load_sweep(DEMO, [f"{key}={source}"])
            assert "\n" not in str(error.value)
