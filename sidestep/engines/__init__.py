"""Compiled one-step generators behind one contract, `sidestep.engines.contract.Engine`."""
