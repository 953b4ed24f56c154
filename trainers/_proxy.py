"""The proxy of ``remix``: SFTTrainer on a loss that weighs domains by how much more they can be learnt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from . import _dro as dro
from ._deepspeed import sum_over_workers
from ._mixture import Layout
from ._tally import TALLY


def proxy_trainer() -> Any:
    """A class of trainer; its instances need `attend` before they train."""
    from trl import SFTTrainer

    class Proxy(SFTTrainer):  # type: ignore[misc]  # the library ships no types
        loss_is_scaled_for_ga = True  # the weights of the samples are those of the whole step
        counted: torch.Tensor

        def attend(self, reference: Any, layout: Layout, eta: float, smoothing: float) -> None:
            """Set what excess is measured against, and the domains.

            Args:
                reference: model, as loaded; it is cut over the workers as the proxy is.
                layout: the domains and the groups of the rows.
                eta: see `dro.updated`.
                smoothing: see `dro.updated`.
            """
            from trl.models.utils import prepare_deepspeed
            from trl.trainer.utils import add_fused_lm_head

            add_fused_lm_head(reference)
            self.reference = prepare_deepspeed(reference, self.accelerator)
            self.layout, self.of_group = layout, np.asarray(layout.of_group)
            self.eta, self.smoothing = eta, smoothing
            self.domains = dro.start([domain.probability for domain in layout.domains])
            self.trajectory: list[tuple[float, ...]] = []

        def facts(self) -> dict[str, Any]:
            """What a checkpoint must hold beside the weights."""
            return {"domains": asdict(self.domains), "trajectory": self.trajectory}

        def restore(self, facts: Mapping[str, Any]) -> None:
            """Go on from `facts`."""
            kept = facts["domains"]
            prior, alpha, mean = (tuple(kept[key]) for key in ("prior", "alpha", "mean"))
            self.domains = dro.Domains(prior, alpha, mean, kept["updates"])
            self.trajectory = [tuple(alpha) for alpha in facts["trajectory"]]

        def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
            """All micro batches of a step, each with the weights of its samples: the domains are updated first.

            The update needs the excess of the whole step, whose micro batches then share one set of weights; that
            costs a second forward pass of the proxy, and the step does not depend on how the batch is cut.
            """
            batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
            if not batches:
                return batches, items
            domain = [self.of_group[batch.pop("group").cpu().numpy()] for batch in batches]
            known = [self._losses(self.reference, batch) for batch in batches]
            self.model_wrapped.eval()
            excess = [
                (self._losses(self.model_wrapped, batch) - reference).double().cpu().numpy()
                for batch, reference in zip(batches, known, strict=True)
            ]
            mine = dro.sums(np.concatenate(excess), np.concatenate(domain), len(self.layout.domains))
            total = sum_over_workers(torch.from_numpy(mine)).numpy()
            clipped, plain = dro.means(total)
            self.domains = dro.updated(self.domains, clipped.tolist(), self.eta, self.smoothing)
            self.trajectory.append(self.domains.alpha)
            for place, over, weight in zip(self.layout.domains, plain.tolist(), self.domains.alpha, strict=True):
                self._metrics["train"][f"excess/{place.name}"].append(over)
                self._metrics["train"][f"weight/{place.name}"].append(weight)
            for batch, reference, places in zip(batches, known, domain, strict=True):
                batch["known"] = reference
                batch["weight"] = torch.from_numpy(dro.sample_weights(self.domains, total, places)).to(reference)
            tokens = sum_over_workers(sum(batch["tally"] for batch in batches))
            self._total_train_tokens += int(tokens[:, TALLY.index("tokens")].sum())
            self._metrics["train"]["num_tokens"] = [self._total_train_tokens]
            return batches, items

        def compute_loss(
            self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            """This worker's part of the sum over domains of weight times mean excess; workers are averaged later."""
            self.counted += inputs.pop("tally").cpu()
            weight, known = inputs.pop("weight"), inputs.pop("known")
            return ((_sequence_losses(model, inputs) - known) * weight).sum() * self.accelerator.num_processes

        @torch.no_grad()
        def _losses(self, model: Any, batch: Mapping[str, Any]) -> torch.Tensor:
            inputs = self._prepare_inputs({key: value for key, value in batch.items() if key != "tally"})
            return _sequence_losses(model, inputs).float()

    return Proxy


def _sequence_losses(model: Any, inputs: Mapping[str, Any]) -> torch.Tensor:
    """(samples,) mean over the trained tokens of the negative log-probability, nats."""
    outputs = model(**inputs, use_cache=False, fused_lm_head=True)
    mean: torch.Tensor = -outputs.log_probs.sum(dim=1) / outputs.label_mask.sum(dim=1).clamp(min=1)
    return mean
