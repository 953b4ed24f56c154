"""What a run hands out: the front document, tables, checkpoints with their cards, the history behind them."""
