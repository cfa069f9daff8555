"""What both stages need to train reliably, and nothing that knows what is trained.

`stream` addresses training samples by position, `randomness` draws numbers by key, `checkpoints` and `files` write
whole files or none, `averaging` keeps the moving average of the weights, `sharding` splits weights over processes,
`cli` is the command line of `train.py`.
"""
