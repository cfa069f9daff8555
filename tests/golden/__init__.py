"""Losses of every tiny recipe over 100 steps, kept as text: a change that should not alter results must not alter them.

`tests/golden/NAME.txt` holds every loss that `train.py fit` logs for configs/*/NAME.yaml on one thread, once for each
processor on which it was recorded. After a change that is meant to alter results:

    python -m tests.golden              # all recipes, on every vector unit that this processor has
    python -m tests.golden tiny-sit     # one recipe
    python -m tests.golden --add        # keep what other machines recorded with the same code, add this one

A processor is known by torch's name of its vector unit, the version of torch, and a hash of what it computes (see
`recordings.arithmetic`). Where all three were recorded, losses must be equal bit for bit, elsewhere within a relative
1e-4. `make test` trains for the first 15 of the 100 steps, `make reliability` for all.

Why 1e-4: processors add in another order, which changes float32 sums in their last bits, some 1e-7. Over 100 steps of
stage 2, whose losses are smooth, that grows to 3e-6 at most between the recorded vector units. 1e-4 is thirty times
that, and far below what a changed formula does.

Stage 1 is compared for its first 5 steps there (and for all 100 where the processor is known). Its L1 loss has a
gradient of the same size for every pixel, whose sign flips where a last bit moves a residual through zero, and Adam
makes the smallest gradients as large as the largest: after the first flip two processors part, to 1e-3 after some steps
and 10 % after a hundred where the weights start at random. Of 1,536 pixel values some 1e-7 of their spread away from
zero, one flips in a few hundred steps at first; 5 steps are safe, and already show loss, gradients and optimizer.
"""
