"""Algorithm 1 and adversarial training on the device, their recipes, and a run that continues with the same bits."""

from fpdlib.training.algorithm1 import step
from fpdlib.training.recipe import Recipe, paper_recipe, passes, released_recipe, training_macs
from fpdlib.training.run import best_epoch, measure, train
