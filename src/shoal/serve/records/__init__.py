"""What is remembered of answers: counters, totals over all fronts, prediction ids and the log behind them."""
