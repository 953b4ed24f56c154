"""How the models of a recipe come about: their addresses, the order they are made in, trainings, tuning, merges."""
