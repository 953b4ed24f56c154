"""`mergefront deploy kuberay|slurm|ray-up RECIPE`: manifests for the places where people run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from search.errors import Problem, UserError, suggestion


class _Targets(TyperGroup):
    """The targets; an unknown one is told in one line, as all bad input is."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        found = super().get_command(ctx, cmd_name)
        if found is None:
            rule, remedy = "there is no such target", suggestion(cmd_name, self.list_commands(ctx))
            raise UserError(Problem("", None, "deploy", rule, f"'{cmd_name}'", remedy))
        return found


deploy = typer.Typer(
    cls=_Targets, no_args_is_help=True, help="Write manifests that run a recipe on Kubernetes, Slurm or cloud machines."
)

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="Recipe file (YAML).")]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder for the files; default: print them.")]
Storage = Annotated[
    str | None, typer.Option("--storage", metavar="DIR|URL", help="Where results go, in place of the recipe's.")
]
Image = Annotated[str, typer.Option("--image", metavar="IMAGE", help="Container image with mergefront.")]
Gpus = Annotated[int | None, typer.Option("--gpus", metavar="N", min=0, help="GPUs of a node; default: at most 8.")]
Cpus = Annotated[int | None, typer.Option("--cpus", metavar="N", min=1, help="CPUs of a node; default: as needed.")]
Memory = Annotated[
    str | None, typer.Option("--memory", metavar="SIZE", help="Memory of a node, such as 256GiB; default: as needed.")
]
Count = Annotated[int | None, typer.Option("--nodes", metavar="N", min=1, help="Nodes at the start.")]
Most = Annotated[int | None, typer.Option("--max-nodes", metavar="N", min=1, help="Nodes that it may grow to.")]


@deploy.command()
def kuberay(
    recipe: RecipeFile,
    image: Image = "",
    volume: Annotated[
        str, typer.Option("--volume", metavar="CLAIM", help="PersistentVolumeClaim (ReadWriteMany): base and data.")
    ] = "",
    secret: Annotated[
        str, typer.Option("--secret", metavar="NAME", help="Secret with the keys that the recipe needs.")
    ] = "",
    namespace: Annotated[str, typer.Option("--namespace", metavar="NAME", help="Default: your context's.")] = "",
    service_account: Annotated[str, typer.Option("--service-account", metavar="NAME", help="Of the pods.")] = "",
    stay: Annotated[
        bool, typer.Option("--stay", help="A RayCluster that stays (for `mergefront serve`), not a RayJob.")
    ] = False,
    hours: Annotated[float, typer.Option("--hours", metavar="N", min=0.1, help="Limit of the job.")] = 72.0,
    gpus: Gpus = None,
    cpus: Cpus = None,
    memory: Memory = None,
    nodes: Count = None,
    most: Most = None,
    storage: Storage = None,
    out: Out = None,
) -> None:
    """Write a RayJob (or RayCluster) for the KubeRay operator."""
    from importlib.metadata import version

    from cluster.deploy.kuberay import Kubernetes, manifests

    from .deploy import job_of

    place = Kubernetes(namespace, volume, secret, service_account, stay, hours)
    _say(
        manifests(job_of(recipe, storage), _wishes(gpus, cpus, memory, nodes, most, image), place, version("ray")), out
    )


@deploy.command()
def slurm(
    recipe: RecipeFile,
    time: Annotated[str, typer.Option("--time", metavar="D-HH:MM:SS", help="Limit of one attempt.")] = "24:00:00",
    partition: Annotated[str, typer.Option("--partition", metavar="NAME")] = "",
    account: Annotated[str, typer.Option("--account", metavar="NAME")] = "",
    setup: Annotated[
        list[str] | None, typer.Option("--setup", metavar="LINE", help="Shell line that activates; may be repeated.")
    ] = None,
    directives: Annotated[
        list[str] | None, typer.Option("--sbatch", metavar="OPTION", help="Option of sbatch; may be repeated.")
    ] = None,
    image: Annotated[str, typer.Option("--image", hidden=True)] = "",
    gpus: Gpus = None,
    cpus: Cpus = None,
    memory: Memory = None,
    nodes: Count = None,
    storage: Storage = None,
    out: Out = None,
) -> None:
    """Write an sbatch script that starts Ray over the allocation."""
    from cluster.deploy.slurm import Slurm, manifests

    from .deploy import job_of, programs

    job = job_of(recipe, storage)
    place = Slurm(time, partition, account, tuple(setup or ()), tuple(directives or ()))
    _say(manifests(job, _wishes(gpus, cpus, memory, nodes, None, image), place, programs()), out)


@deploy.command("ray-up")
def ray_up(
    recipe: RecipeFile,
    provider: Annotated[str, typer.Option("--provider", metavar="NAME", help="aws, gcp, or local.")],
    image: Image = "",
    share: Annotated[
        str, typer.Option("--share", metavar="DIR", help="Directory that all machines see: base and data.")
    ] = "",
    region: Annotated[str, typer.Option("--region", metavar="NAME")] = "",
    zone: Annotated[str, typer.Option("--zone", metavar="NAME")] = "",
    project: Annotated[str, typer.Option("--project", metavar="ID", help="GCP's.")] = "",
    instance: Annotated[str, typer.Option("--instance", metavar="TYPE", help="Of the workers.")] = "",
    head_instance: Annotated[str, typer.Option("--head-instance", metavar="TYPE")] = "",
    disk_image: Annotated[str, typer.Option("--disk-image", metavar="NAME", help="AMI, or GCP source image.")] = "",
    head_ip: Annotated[str, typer.Option("--head-ip", metavar="IP", help="Provider local.")] = "",
    worker_ip: Annotated[
        list[str] | None, typer.Option("--worker-ip", metavar="IP", help="Provider local; may be repeated.")
    ] = None,
    ssh_user: Annotated[str, typer.Option("--ssh-user", metavar="NAME")] = "ubuntu",
    gpus: Gpus = None,
    cpus: Cpus = None,
    memory: Memory = None,
    nodes: Count = None,
    most: Most = None,
    storage: Storage = None,
    out: Out = None,
) -> None:
    """Write the cluster file of `ray up`."""
    from cluster.deploy.ray_up import Machines, manifests

    from .deploy import job_of

    place = Machines(
        provider, share, region, zone, project, instance, head_instance, disk_image, head_ip, tuple(worker_ip or ()),
        ssh_user,
    )  # fmt: skip
    _say(manifests(job_of(recipe, storage), _wishes(gpus, cpus, memory, nodes, most, image), place), out)


def _wishes(
    gpus: int | None, cpus: int | None, memory: str | None, nodes: int | None, most: int | None, image: str
) -> Any:
    from pydantic import TypeAdapter, ValidationError

    from cluster.deploy.job import Wishes
    from search._recipe.fields import Size

    try:
        size = None if memory is None else TypeAdapter(Size).validate_python(memory)
    except ValidationError:
        rule, remedy = "must be a size in bytes", "write such as 256GiB"
        raise UserError(Problem("", None, "--memory", rule, f"'{memory}'", remedy)) from None
    return Wishes(gpus, cpus, size, nodes, most, image)


def _say(files: dict[str, str], out: Path | None) -> None:
    from .deploy import write

    for line in write(files, out):
        typer.echo(line)
