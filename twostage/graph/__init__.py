"""Content-addressed work: nodes that depend on each other, done once, in any process, continued after any stop.

Knows nothing of what the work is: a node says which kind it is, and `run_nodes` is handed the function that does it.
`node` is a piece of work and its address, `code_version` the part of an address that the source code has, `store` its
folder, `execution` the order; `workers` and `cluster` are where it runs, `progress` what a person sees of it.
"""
