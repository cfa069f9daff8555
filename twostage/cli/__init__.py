"""The commands, `train`, `sample`, `evaluate`, `sweep`, `compare`, `verify`, `rank` and others, each with its `main`.

They are installed as `eqvae-train` and so on; the scripts at the top of a checkout call the same. Here stands what may
be typed, and nothing here imports torch: help and a mistyped option take less than a second. What a command does is in
`twostage.commands`.
"""
