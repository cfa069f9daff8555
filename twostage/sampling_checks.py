"""What can be wrong with how a sweep samples its generators: samplers, steps, guidance, labels."""

from dataclasses import replace

from dit.labels import choose_labels, names_path
from dit.samplers import SamplingSettings
from eqvae.packaged import TRAINING, find_config
from twostage.configs import resolved_config, value_at
from twostage.parts.evaluation import REAL_LABELS, sampling_of
from twostage.parts.generator import objective_class, objective_of
from twostage.schema import Evaluation, GeneratorSettings

GRID_SCALE = "evaluation.grid_guidance_scale"


def sampling_problems(name: str, generator: GeneratorSettings, evaluation: Evaluation) -> list[tuple[str, str]]:
    """What keeps a generator from being sampled as the sweep says."""
    key = f"generators.{name}.sampling" if generator.sampling else "evaluation.sampling"
    if "seed" in generator.sampling:
        return [(f"{key}.seed", "is each of seeds in turn: leave it out")]
    if not find_config(generator.config, TRAINING).is_file():
        return []  # of the config's own problems
    try:
        objective_class(generator)
    except ValueError as error:
        return [(f"generators.{name}.config", str(error))]
    try:
        sampling = sampling_of(evaluation, generator)
    except ValueError as error:
        return [(key, str(error))]
    if problems := _unguidable(name, key, generator, sampling, evaluation):
        return problems
    return _unknown_labels(generator, evaluation.labels)


def _unguidable(
    name: str, key: str, generator: GeneratorSettings, sampling: SamplingSettings, evaluation: Evaluation
) -> list[tuple[str, str]]:
    """Guidance, of the samples or of the grids, that the generator cannot have."""
    config = resolved_config(generator.config, generator.overrides)
    dropout = value_at(config, "model.init_args.backbone.init_args.class_dropout_prob")
    scales = {f"{key}.guidance_scale": sampling.guidance_scale, GRID_SCALE: evaluation.grid_guidance_scale}
    found = []
    for place, scale in scales.items():
        try:
            if dropout == 0 and scale != 1:
                raise ValueError(f"is {scale:g}, but generators.{name} never learns without labels: give 1")
            replace(sampling, guidance_scale=scale).spelled_out(objective_of(generator))
        except ValueError as error:
            found.append((place, str(error)))
    return found


def _unknown_labels(generator: GeneratorSettings, how: str) -> list[tuple[str, str]]:
    """Labels beyond the classes that a generator's config names; of "auto" the cache tells, when it is there."""
    config = resolved_config(generator.config, generator.overrides)
    classes = value_at(config, "model.init_args.backbone.init_args.num_classes")
    if how == REAL_LABELS or names_path(how) or not isinstance(classes, int):
        return []
    try:
        choose_labels(1, classes, how)
    except ValueError as error:
        return [("evaluation.labels", str(error))]
    return []
