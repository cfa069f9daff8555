"""From learning curves to a verdict: how much sooner one arm reaches a level than another, and how sure that is.

`records` is what a sweep measured, as plain typed values. `curves` answers when a curve reaches a level, `pairs`
compares the two arms of a seed, `intervals` and `verdict` all seeds, `planning` says how many more are needed,
`comparison` and `summary` join it for a sweep, and `words` says it to a person. Nothing is extrapolated.
"""
