"""The callbacks and options of a long run, written in YAML as a user writes them."""

import yaml

from dit.checkpoints import load_generator
from tests.tiny import STAGE_ONE, stage_two

CALLBACKS = """
- class_path: eqvae.training.averaging.ExponentialMovingAverage
  init_args: {decay: [0.9, 0.5]}
- class_path: eqvae.training.throughput.ThroughputMonitor
  init_args: {window: 2}
- class_path: dit.previews.SamplePreviews
  init_args:
    every_n_steps: 6
    num_images: 4
    sampling: {num_inference_steps: 2, guidance_scale: 2.0}
    num_reference_images: 4
    reference:
      class_path: eqvae.data.ShapesSource
      init_args: {num_images: 4, image_size: 32}
- class_path: lightning.pytorch.callbacks.ModelCheckpoint
  init_args: {dirpath: DIRPATH, every_n_train_steps: 3, save_last: true}
"""


def test_a_run_with_everything(cache, tmp_path):
    images = {"num_images": STAGE_ONE["data.init_args.train.init_args.num_images"], "image_size": 32}
    overrides = {
        "trainer.callbacks": yaml.safe_load(CALLBACKS.replace("DIRPATH", str(tmp_path))),
        "trainer.log_every_n_steps": 1,
        "model.init_args.on_nonfinite": "skip",
        "data.init_args.images": {"class_path": "eqvae.data.ShapesSource", "init_args": images},
    }
    run = stage_two(tmp_path, cache, overrides)
    run.trainer.fit(run.model, run.datamodule)
    assert (tmp_path / "previews" / "step=0000006.png").is_file()
    assert "speed/tflops" in run.trainer.logged_metrics
    assert load_generator(tmp_path / "last.ckpt", ema_decay=0.5).num_steps == 6
