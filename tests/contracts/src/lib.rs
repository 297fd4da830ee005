//! Contracts between our actions, our workflows and the programs behind them.
