"""How a recipe is read: YAML with line numbers, the sections as models, problems with a place."""
