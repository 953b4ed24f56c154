"""Manifests for the places where people run: Kubernetes (KubeRay), Slurm, machines that `ray up` starts."""
