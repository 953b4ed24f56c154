"""Jobs of the shapes that recipes have."""

from __future__ import annotations

from cluster.deploy.job import GIB, Group, Job

GPU = Job(
    name="Six languages",
    recipe="/data/recipe.yaml",
    text="name: six\n",
    groups=(Group(12, 4, 1, 16 * GIB), Group(16, 8, 1, 16 * GIB)),
    variables=("OPENAI_API_KEY",),
    storage="s3://bucket/six",
    image_kind="cuda",
)
CPU = Job(
    name="demo",
    recipe="/data/it's here/recipe.yaml",
    text="name: demo\n",
    groups=(Group(2, 0.9, 0, GIB),),
    variables=(),
    storage="runs/demo",
    image_kind="cpu",
)
