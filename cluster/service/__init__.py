"""The job service: recipes come in over HTTP, each runs as a Ray job, fronts and checkpoints go out."""
