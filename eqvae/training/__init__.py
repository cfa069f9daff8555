"""What both stages need to train reliably, and nothing that knows what is trained.

`checkpoints` writes whole files or none, `averaging` keeps the moving average of the weights, `sharding` splits weights
over processes, `signals` answers the operating system, `cli` is the command line of `train.py`.
"""
