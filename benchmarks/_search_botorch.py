"""The strongest public peer: botorch's qLogNEHVI, given the known noise."""

from __future__ import annotations

import warnings

import numpy as np

from search.samplers import Problem

from ._search_tasks import Array


class Botorch:
    """qLogNEHVI as botorch's tutorial has it: one GP per objective with the known noise, `wide` as reference point.

    The starts, then Sobol points up to 2 (d + 1); after that one point at a time.
    """

    RESTARTS, RAW, SAMPLES = 5, 128, 64

    def __init__(self, problem: Problem, seed: int) -> None:
        self.problem, self.seed = problem, seed
        self.x: list[Array] = []
        self.values: list[Array] = []
        self.errors: list[Array] = []

    def ask(self) -> Array:
        done = len(self.x)
        if done < len(self.problem.starts):
            return np.array(self.problem.starts[done])
        import torch

        if done < 2 * (self.problem.dimensions + 1):
            engine = torch.quasirandom.SobolEngine(  # type: ignore[no-untyped-call]  # torch leaves it untyped
                self.problem.dimensions, scramble=True, seed=self.seed
            )
            return np.asarray(engine.draw(done + 1, dtype=torch.double)[done].numpy())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self._model_based()

    def _model_based(self) -> Array:
        import torch
        from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
        from botorch.fit import fit_gpytorch_mll
        from botorch.models.gp_regression import SingleTaskGP
        from botorch.models.model_list_gp_regression import ModelListGP
        from botorch.optim.optimize import optimize_acqf
        from botorch.sampling.normal import SobolQMCNormalSampler
        from gpytorch.mlls import SumMarginalLogLikelihood

        torch.manual_seed(1000003 * self.seed + len(self.x))
        x = torch.tensor(np.array(self.x))
        values, errors = np.array(self.values), np.array(self.errors)
        centre, scale = values.mean(axis=0), np.maximum(values.std(axis=0), 1e-9)
        y, variance = torch.tensor((values - centre) / scale), torch.tensor((errors / scale) ** 2)
        models = [
            SingleTaskGP(x, y[:, i : i + 1], variance[:, i : i + 1].clamp_min(1e-6), outcome_transform=None)
            for i in range(y.shape[1])
        ]
        model = ModelListGP(*models)
        fit_gpytorch_mll(SumMarginalLogLikelihood(model.likelihood, model))
        assert self.problem.reference is not None
        acquisition = qLogNoisyExpectedHypervolumeImprovement(
            model=model,
            ref_point=torch.tensor((np.array(self.problem.reference) - centre) / scale),
            X_baseline=x,
            prune_baseline=True,
            sampler=SobolQMCNormalSampler(torch.Size([self.SAMPLES]), seed=self.seed),
        )
        bounds = torch.stack([torch.zeros(x.shape[1]), torch.ones(x.shape[1])]).double()
        point, _ = optimize_acqf(
            acquisition,
            bounds,
            q=1,
            num_restarts=self.RESTARTS,
            raw_samples=self.RAW,
            options={"batch_limit": 5, "maxiter": 100},
        )
        return np.asarray(point.detach().numpy()[0])

    def tell(self, x: Array, values: Array, errors: Array) -> None:
        self.x.append(x)
        self.values.append(values)
        self.errors.append(errors)
