"""The numbers of a front and how sure they are: aggregates over languages, dominance, hypervolume, intervals, draws."""
