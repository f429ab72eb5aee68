"""From a recipe to run folders: data, weights, training, evaluation, report."""
