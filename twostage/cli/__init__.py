"""The commands: `train`, `sample`, `evaluate`, `sweep`, `compare`, `verify` and `export`, each with its `main`.

They are installed as `eqvae-train` and so on; the scripts at the top of a checkout call the same.
"""
